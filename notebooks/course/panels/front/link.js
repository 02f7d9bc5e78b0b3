// The state of a panel in the page's address, and as the line of Python that sets it.
import { sameValue } from "./controls.js";

const changed = (values, first) =>
  Object.entries(values).filter(([name, value]) => !sameValue(value, first[name]));

export function asLink(name, values, first) {
  const place = new URL(window.location.href);
  const state = JSON.stringify(Object.fromEntries(changed(values, first)));
  place.hash = `${name}=${encodeURIComponent(state)}`;
  return place.href;
}

export function asPython(values, first) {
  return `set(${changed(values, first)
    .map(([name, value]) => `${name}=${toPython(value)}`)
    .join(", ")})`;
}

// The values that the page's address asks of this panel.
export function fromLink({ name, controls }) {
  try {
    const [panel, values] = decodeURIComponent(window.location.hash.slice(1)).split(/=(.*)/s);
    if (panel !== name) return {};
    return Object.fromEntries(Object.entries(JSON.parse(values)).filter(([n]) => n in controls));
  } catch {
    return {};
  }
}

function toPython(value) {
  if (Array.isArray(value)) return `[${value.map(toPython).join(", ")}]`;
  if (value === "-inf") return "-math.inf";
  return { true: "True", false: "False" }[value] ?? JSON.stringify(value);
}

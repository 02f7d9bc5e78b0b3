// The controls of a panel: a slider with a number to type, a menu, a tick, several numbers.
import { html, snap } from "./shared.js";

const SAME = 1e-9;

export function sameValue(one, other) {
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((value, i) => sameValue(value, other[i]));
  }
  if (typeof one === "number" && typeof other === "number") return Math.abs(one - other) < SAME;
  return one === other;
}

// Build one control: {node, show(value, off)}. It calls `change(value)` with what a hand chose.
export function makeControl(control, change) {
  return { number, numbers, tick, choice, ladder, several }[control.kind](control, change);
}

// A typed number counts as typed, within its range; a slider's is on its grid.
function typed(input, control, change) {
  input.addEventListener("change", () => {
    const value = Number.parseFloat(input.value.replace(",", ".").replace("−", "-"));
    const whole = Number.isInteger(control.step);
    if (Number.isFinite(value)) {
      const inside = Math.min(Math.max(value, control.low), control.high);
      change(whole ? Math.round(inside) : Number(inside.toFixed(6)));
    }
    input.dispatchEvent(new CustomEvent("refresh"));
  });
}

const limits = ({ low, high, step }) => ({ min: low, max: high, step });

function number(control, change) {
  const slider = html("input", { type: "range", "aria-label": control.label, ...limits(control) });
  const field = html("input", {
    type: "number",
    "aria-label": `${control.label}, as a number`,
    ...limits(control),
  });
  slider.addEventListener("input", () => change(snap(Number(slider.value), control)));
  typed(field, control, change);
  const node = html("div", { class: "cp-control" }, html("label", {}, control.label), field, slider);
  let shown = control.first;
  const show = (value, off = false) => {
    shown = value;
    slider.value = value;
    if (document.activeElement !== field || Number(field.value) !== value) field.value = value;
    slider.disabled = field.disabled = off;
    node.classList.toggle("off", off);
  };
  field.addEventListener("refresh", () => show(shown));
  return { node, show };
}

function numbers(control, change) {
  const many = html("div", { class: "cp-many" });
  const count = html("input", {
    type: "number",
    min: control.fewest,
    max: control.most,
    "aria-label": "how many",
  });
  const node = html("div", { class: "cp-control" }, html("label", {}, control.label), count, many);
  let shown = [...control.first];
  const memory = [...control.first];
  count.addEventListener("change", () => {
    const asked = Math.round(Number(count.value));
    const length = Math.min(Math.max(asked || control.fewest, control.fewest), control.most);
    change(Array.from({ length }, (_, i) => shown[i] ?? memory[i] ?? 1));
    show(shown);
  });
  const fields = [];
  function show(values) {
    shown = values;
    values.forEach((value, i) => {
      memory[i] = value;
    });
    count.value = values.length;
    while (fields.length > values.length) fields.pop().parentNode.remove();
    while (fields.length < values.length) {
      const i = fields.length;
      const field = html("input", { type: "number", "aria-label": `gradient ${i + 1}`, ...limits(control) });
      typed(field, control, (value) => change(shown.map((old, k) => (k === i ? value : old))));
      field.addEventListener("refresh", () => show(shown));
      many.append(html("label", {}, `g${"₁₂₃₄₅₆"[i]}`, field));
      fields.push(field);
    }
    fields.forEach((field, i) => {
      if (Number(field.value) !== values[i] || field.value === "") field.value = values[i];
    });
  }
  return { node, show };
}

function tick(control, change) {
  const box = html("input", { type: "checkbox", "aria-label": control.label });
  box.addEventListener("change", () => change(box.checked));
  const node = html("div", { class: "cp-control tick" }, box, html("label", {}, control.label));
  node.lastChild.addEventListener("click", () => !box.disabled && change(!box.checked));
  return {
    node,
    show: (value, off = false) => {
      box.checked = value;
      box.disabled = off;
      node.classList.toggle("off", off);
    },
  };
}

function choice(control, change) {
  const menu = html("select", { "aria-label": control.label });
  for (const [words] of control.options) menu.append(html("option", {}, words));
  menu.addEventListener("change", () => change(control.options[menu.selectedIndex][1]));
  const longest = Math.max(...control.options.map(([words]) => words.length));
  const inline = longest + control.label.length < 20 ? " inline" : "";
  const node = html("div", { class: `cp-control${inline}` }, html("label", {}, control.label), menu);
  return {
    node,
    show: (value, off = false) => {
      menu.selectedIndex = control.options.findIndex(([, option]) => sameValue(option, value));
      menu.disabled = off;
      node.classList.toggle("off", off);
    },
  };
}

function ladder(control, change) {
  const slider = html("input", {
    type: "range",
    min: 0,
    max: control.options.length - 1,
    step: 1,
    "aria-label": control.label,
  });
  const readout = html("span", { class: "cp-readout" });
  slider.addEventListener("input", () => change(control.options[Number(slider.value)][1]));
  const node = html("div", { class: "cp-control" }, html("label", {}, control.label), readout, slider);
  return {
    node,
    show: (value, off = false) => {
      const place = control.options.findIndex(([, option]) => sameValue(option, value));
      slider.value = place;
      readout.textContent = control.options[place]?.[0] ?? value;
      slider.setAttribute("aria-valuetext", readout.textContent);
      slider.disabled = off;
      node.classList.toggle("off", off);
    },
  };
}

function several(control, change) {
  const many = html("div", { class: "cp-many" });
  const boxes = control.options.map(([words, option]) => {
    const box = html("input", { type: "checkbox" });
    many.append(html("label", { style: "justify-content: flex-start" }, box, words));
    box.addEventListener("change", () => {
      const chosen = control.options.filter((_, i) => boxes[i].checked).map(([, value]) => value);
      change(chosen);
    });
    box.option = option;
    return box;
  });
  const node = html("div", { class: "cp-control" }, html("label", {}, control.label), many);
  return {
    node,
    show: (value) =>
      boxes.forEach((box) => {
        box.checked = value.includes(box.option);
      }),
  };
}

// A bar to change between panels; a link to the state of a panel opens at it.
import { html, onResize } from "./shared.js";

function render({ model, el }) {
  const bar = html("div", { class: "cp cp-bar cp-choice", role: "tablist", "aria-label": "panels" });
  el.append(bar);
  const names = model.get("names");
  const linked = window.location.hash.slice(1).split("=")[0];
  if (linked in names) choose(linked);

  function choose(name) {
    model.set("chosen", name);
    model.save_changes();
    show();
  }

  function show() {
    bar.replaceChildren();
    for (const [name, words] of Object.entries(names)) {
      const selected = String(name === model.get("chosen"));
      const look = { type: "button", role: "tab", "aria-selected": selected };
      bar.append(html("button", { ...look, click: () => choose(name) }, words));
    }
  }

  model.on("change:chosen", show);
  show();
  const still = onResize(el, ({ size }) => bar.style.setProperty("--u", `${size}px`));
  return () => {
    still();
    model.off("change:chosen", show);
  };
}

export default { render };

// What stands around every picture: presets, target, controls, status, a guess, and a link.
import { makeControl, sameValue } from "./controls.js";
import { asLink, asPython, fromLink } from "./link.js";
import { html, onResize } from "./shared.js";

const OWN = "your own";
const ORDERS = ["start", "pause", "step", "stop"];
const ALLOWED = {
  idle: ["start", "step", "more"],
  running: ["pause", "step", "stop"],
  paused: ["start", "step", "stop"],
};
const SAVE_EVERY = 60; // ms between two messages to the kernel while a hand drags

// Build a panel in `el`. `build(frame)` returns what is peculiar to it, a view with
// resize(size), draw(values), and where it has them words(values), the text for those who do not
// see the picture; judge(values), how the target is reached; ask(values), a question with its
// options and the number of the right one; hear(told), for what Python tells.
export function makeFrame(model, el, build) {
  const about = () => model.get("about");
  const told = () => model.get("told") ?? {};
  const first = () => Object.fromEntries(Object.entries(about().controls).map(([n, c]) => [n, c.first]));
  const inLab = Boolean(document.querySelector("#jp-main-dock-panel"));
  const hasKernel = model.get("kernel") !== false;
  const root = html("div", { class: "cp cl-panel", role: "group", "aria-label": about().name });
  // JupyterLab would take a slider's arrows for itself, and cut a cell on an x.
  root.addEventListener("keydown", (event) => event.ctrlKey || event.metaKey || event.stopPropagation());
  const stage = html("div", { class: "cp-stage" });
  const left = html("div", { class: "cp-left" });
  const bar = html("div", { class: "cp-bar" });
  const statusLine = html("span", { role: "status" });
  const progress = html("progress", { max: 1, "aria-label": "progress" });
  const line = html("div", { class: "cp-line" }, statusLine, progress);
  const picture = html("span", { class: "cp-hidden", role: "img", "data-words": "" });
  const guess = html("div", { class: "cp-guess", role: "group", "aria-label": "prediction" });
  const target = html("span", { class: "cp-target" });
  root.append(bar, left, stage, line, picture);
  el.append(root);

  let values = { ...first(), ...model.get("values"), ...fromLink(about()) };
  let [view, size, saved, timer, own, tab] = [null, null, 0, null, "", ""];
  let [predicting, guessed] = [false, false];
  const fields = {};

  const frame = {
    model,
    root,
    stage,
    about,
    told,
    get values() {
      return values;
    },
    get size() {
      return size;
    },
    change,
    send: (order) => model.send(order),
    say: (words) => {
      own = words;
      showStatus();
    },
    redraw,
  };

  // Draws at once: what a hand moves answers within its frame. The kernel hears it soon after.
  function change(news) {
    const names = Object.keys(news).filter((name) => !sameValue(values[name], news[name]));
    if (!names.length) return;
    values = { ...values, ...news };
    guessed = false;
    redraw();
    clearTimeout(timer);
    const wait = saved + SAVE_EVERY - performance.now();
    if (wait <= 0) save();
    else timer = setTimeout(save, wait);
  }

  function save() {
    saved = performance.now();
    model.set("values", values);
    model.save_changes();
  }

  function redraw() {
    if (!view || !size) return;
    root.classList.toggle("hiding", predicting && !guessed && Boolean(view.ask));
    view.draw(values);
    for (const [name, field] of Object.entries(fields)) {
      field.show(values[name], view.idle?.(values)?.includes(name));
    }
    picture.setAttribute("aria-label", predicting && !guessed ? "hidden until a guess" : describe());
    preset.value = presetOf(values);
    showTarget();
    showGuess();
    showStatus();
  }

  const describe = () => view.words?.(values) ?? "";
  const complete = (name) => ({ ...first(), ...about().presets[name] });
  const equal = (one, other) => Object.keys(first()).every((n) => sameValue(one[n], other[n]));
  function presetOf(now) {
    return Object.keys(about().presets).find((name) => equal(complete(name), now)) ?? OWN;
  }

  function showTarget() {
    if (!about().target) return;
    const reached = view.judge ? view.judge(values) : told().reached;
    target.classList.toggle("reached", Boolean(reached));
    target.textContent = reached ? `☑ Target reached: ${reached}` : `☐ Target: ${about().target}`;
    target.style.visibility = reached && predicting && !guessed ? "hidden" : "";
  }

  function showGuess() {
    const asked = predicting ? view.ask?.(values) : null;
    guess.replaceChildren();
    guess.hidden = !asked;
    if (!asked) return;
    guess.append(html("b", {}, asked.question));
    asked.options.forEach((words, number) => {
      const click = () => {
        guessed = [number, asked.answer];
        redraw();
      };
      const mark = guessed && number === asked.answer ? " ✓" : "";
      const chosen = Boolean(guessed) && guessed[0] === number;
      guess.append(
        html("button", { click, disabled: Boolean(guessed), "aria-pressed": String(chosen) }, words + mark),
      );
    });
    const unknown = asked.answer < 0;
    if (guessed) guess.append(unknown ? "We shall see." : guessed[0] === asked.answer ? "Right." : "Not so.");
  }

  function showStatus() {
    const { phase, words, progress: share, asked } = told();
    const going = phase && phase !== "idle";
    const python = { paused: `Paused. ${words}`, stopping: "Stopping." }[phase] ?? words;
    const later = going && asked && !equal({ ...asked }, values);
    const mine = view?.status?.(values) ?? "";
    const note = later ? " Changed controls count for the next run." : "";
    const next = `${[python, going ? "" : own || mine].filter(Boolean).join(" ")}${note}`;
    if (statusLine.textContent !== next) statusLine.textContent = next;
    progress.hidden = !going;
    progress.value = share ?? 0;
    for (const [name, button] of Object.entries(orders)) {
      button.disabled = !(ALLOWED[phase ?? "idle"] ?? []).includes(ORDERS.includes(name) ? name : "more");
    }
    if (orders.start) orders.start.textContent = phase === "paused" ? "Go on" : "Start";
  }

  function reset() {
    own = "";
    guessed = false;
    if (hasKernel) model.send({ do: "reset" });
    view.reset?.();
    change(first());
  }

  function link() {
    const copied = inLab ? asPython(values, first()) : asLink(about().name, values, first());
    navigator.clipboard?.writeText(copied).catch(() => {});
    const field = html("input", { class: "cp-link", readonly: true, "aria-label": "copied", value: copied });
    line.querySelector(".cp-link")?.remove();
    line.prepend(field);
    field.select();
    setTimeout(() => field.remove(), 15000);
  }

  const button = (words, click, more = {}) => html("button", { type: "button", click, ...more }, words);
  const orders = {};
  const preset = html("select", {
    "aria-label": "preset",
    change: () => preset.value !== OWN && change(complete(preset.value)),
  });
  for (const name of [OWN, ...Object.keys(about().presets)]) preset.append(html("option", {}, name));
  if (Object.keys(about().presets).length) bar.append(preset);
  if (about().works && hasKernel) {
    for (const [name, words] of Object.entries({
      start: "Start",
      pause: "Pause",
      step: "Step",
      stop: "Stop",
    })) {
      orders[name] = button(words, () => model.send({ do: name }));
    }
    bar.append(...Object.values(orders));
  }
  bar.append(button("Reset", reset));
  const predict = button(
    "Predict first",
    () => {
      predicting = !predicting;
      guessed = false;
      predict.setAttribute("aria-pressed", String(predicting));
      redraw();
    },
    { "aria-pressed": "false" },
  );
  const share = button(inLab ? "Copy set(…)" : "Copy link", link);

  function layControls() {
    const controls = Object.entries(about().controls);
    const named = controls.map(([, control]) => control.tab || (view?.tab ? "Run" : ""));
    const tabs = [...new Set([view?.tab?.name, ...named])].filter((name) => name && name !== "hidden");
    tab = tabs.includes(tab) ? tab : tabs[0];
    for (const node of left.querySelectorAll(":scope > .cp-laid")) node.remove();
    const laid = [];
    if (tabs.length) {
      const list = html("div", { class: "cp-tabs cp-laid", role: "tablist" });
      for (const name of tabs) {
        const choose = () => {
          tab = name;
          layControls();
          redraw();
          left.querySelector(`[role="tab"][aria-selected="true"]`).focus();
        };
        list.append(button(name, choose, { role: "tab", "aria-selected": String(name === tab) }));
      }
      laid.push(list);
    }
    for (const name of Object.keys(fields)) delete fields[name];
    for (const [name, control] of controls) {
      if (control.tab === "hidden" || (tabs.length && (control.tab || "Run") !== tab)) continue;
      fields[name] = makeControl(control, (value) => change({ [name]: value }));
      fields[name].node.classList.add("cp-laid");
      laid.push(fields[name].node);
    }
    left.prepend(...laid);
    for (const [name, node] of Object.entries(view?.extras ?? {})) {
      if (name === tab) left.append(node);
      else node.remove();
    }
    if (view?.tab) {
      if (tab === view.tab.name) left.append(view.tab.node);
      else view.tab.node.remove();
    }
  }

  view = build(frame);
  layControls();
  for (const [words, order] of (hasKernel && view.buttons) || []) {
    orders[order] = button(words, () => model.send({ do: order }));
    bar.append(orders[order]);
  }
  if (view.ask) bar.append(predict);
  bar.append(share);
  if (about().target) bar.append(target);
  bar.append(guess);
  const adopt = () => {
    const theirs = model.get("values");
    if (equal(theirs, values)) return;
    // While a hand moves, what comes back is where it was a moment ago.
    const busy = saved + 3 * SAVE_EVERY - performance.now();
    if (busy > 0) {
      setTimeout(adopt, busy);
      return;
    }
    values = { ...values, ...theirs };
    guessed = false;
    redraw();
  };
  const learn = () => {
    layControls();
    redraw();
  };
  const listen = () => {
    view.told?.(told());
    redraw();
  };
  model.on("change:values", adopt);
  model.on("change:about", learn);
  model.on("change:told", listen);
  const still = onResize(el, (now) => {
    size = now;
    root.style.setProperty("--u", `${now.size}px`);
    root.style.height = `${now.height}px`;
    root.classList.toggle("stacked", now.stacked);
    stage.style.height = now.stacked ? `${Math.min(now.height, now.width * 0.75)}px` : "";
    lay();
  });
  function lay() {
    if (!view || !size) return;
    view.resize({ ...size, width: stage.clientWidth, height: stage.clientHeight });
    redraw();
  }
  const inner = new ResizeObserver(lay);
  inner.observe(stage);
  lay();
  if (!equal(values, model.get("values"))) save();
  return () => {
    still();
    inner.disconnect();
    model.off("change:values", adopt);
    model.off("change:about", learn);
    model.off("change:told", listen);
    view.close?.();
  };
}

// Play, pause, step and scrub over the steps of something recorded.
import { html } from "./shared.js";

// A row of buttons and a slider: {node, show(at, last)}. `go(at)` is called with each new step;
// `most` says how many steps a second are played at the pace that the class chose.
export function makePlayer(go) {
  let [at, last, playing, begun] = [0, 0, false, 0];
  const play = html("button", { type: "button", click: () => (playing ? pause() : start()) }, "▶ Play");
  const step = html("button", { type: "button", "aria-label": "one step", click: () => move(at + 1) }, "+1");
  const slider = html("input", { type: "range", min: 0, step: 1, "aria-label": "step" });
  const readout = html("span", { class: "cp-readout" });
  const pace = html("select", { "aria-label": "pace" });
  for (const [words, rate] of [
    ["slow", 4],
    ["steady", 20],
    ["fast", 80],
  ]) {
    pace.append(html("option", { value: rate }, words));
  }
  pace.selectedIndex = 1;
  const node = html("div", { class: "cp-player" }, play, step, slider, readout, pace);
  slider.addEventListener("input", () => move(Number(slider.value)));

  function move(to) {
    pause();
    set(to);
  }

  function set(to) {
    at = Math.min(Math.max(to, 0), last);
    go(at);
  }

  function start() {
    if (at >= last) at = 0;
    playing = true;
    play.textContent = "⏸ Pause";
    begun = performance.now();
    requestAnimationFrame(tick);
  }

  function pause() {
    playing = false;
    play.textContent = "▶ Play";
  }

  function tick(now) {
    if (!playing || !node.isConnected) return;
    const steps = Math.floor(((now - begun) / 1000) * Number(pace.value));
    if (steps > 0) {
      begun = now;
      set(at + steps);
      if (at >= last) pause();
    }
    requestAnimationFrame(tick);
  }

  return {
    node,
    pause,
    show(now, end) {
      [at, last] = [now, end];
      slider.max = end;
      slider.value = now;
      readout.textContent = `step ${now} of ${end}`;
    },
  };
}

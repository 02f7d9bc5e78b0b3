// Two weights: a start that is dragged over the landscape, and where two rules take it.
import { findBasins, SIZE, shares } from "./basins.js";
import { drawPlots, EXAMPLES, endOf, ground, picture } from "./descent_plots.js";
import { makeFrame } from "./frame.js";
import { descend, landscape, whichZero } from "./landscapes.js";
import { makePlayer } from "./player.js";
import {
  arrow,
  axes,
  COLORS,
  clamp,
  DASHES,
  html,
  onDrag,
  onKeys,
  placeIn,
  scale,
  sized,
  snap,
  svg,
  text,
} from "./shared.js";

const ARROW = 60; // px of a gradient of size 1

const chosen = ({ rule, beside }) => [...new Set([rule, beside])].filter((name) => name !== "none");

// Where each rule goes from the start: {rule: {places, updates, end, kind}}.
export function runsOf(facts, values) {
  const land = landscape(facts);
  const runs = {};
  for (const rule of chosen(values)) {
    const run = descend(land, [values.a, values.b], rule, values);
    const end = run.places.at(-1);
    const zero = whichZero(land, facts.zeros, end);
    const losses = land.losses(...end);
    const left = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    const broke = run.updates.length < values.steps;
    const kind = broke ? "diverged" : zero < 0 ? "nowhere" : facts.zeros[zero].kind;
    runs[rule] = { ...run, end, kind, left };
  }
  return runs;
}

function build(frame) {
  const map = html("canvas", {});
  const drawing = svg("svg", {});
  const [under, over, points] = [svg("g", {}), svg("g", { class: "outcome" }), svg("g", {})];
  const start = svg("circle", {
    class: "handle",
    tabindex: 0,
    role: "slider",
    fill: "white",
    stroke: "black",
  });
  start.setAttribute("stroke-width", 3);
  over.style.pointerEvents = "none";
  drawing.append(under, points, start, over);
  const player = makePlayer((at) => {
    moment = at;
    frame.redraw();
  });
  frame.stage.append(map, drawing, player.node);
  let [box, moment, settings, basins, at] = [null, 0, "", null, ""];

  const facts = () => frame.about().landscapes[frame.values.landscape];
  const x = () => scale(-3, 3, box.x, box.x + box.side);
  const y = () => scale(-3, 3, box.y + box.side, box.y);
  const limits = { low: -3, high: 3, step: 0.05 };

  function place(a, b) {
    frame.change({ a: snap(clamp(a, -3, 3), limits), b: snap(clamp(b, -3, 3), limits) });
  }
  const follow = (event) => {
    const [left, top] = placeIn(drawing, event);
    place(x().back(left), y().back(top));
  };
  onDrag(start, follow);
  const press = svg("rect", { fill: "transparent", style: "cursor: crosshair" });
  onDrag(press, follow);
  drawing.insertBefore(press, start);
  onKeys(start, (across, up) => place(frame.values.a + 0.05 * across, frame.values.b + 0.05 * up));

  function drawMap(values) {
    const pen = sized(map, box.x + box.side + 1, box.y + box.side + 1);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(ground(facts()).image, box.x, box.y, box.side, box.side);
    const rule = { "of the rule": values.rule, "of the one beside": values.beside }[values.basins];
    if (!basins?.ends[rule]) return;
    const colors = [...facts().zeros.map((zero) => COLORS[zero.kind]), COLORS.nowhere];
    const rgb = colors.map((hex) => [1, 3, 5].map((i) => Number.parseInt(hex.slice(i, i + 2), 16)));
    const layer = picture(SIZE, (i) => {
      const end = basins.ends[rule][(SIZE - 1 - Math.floor(i / SIZE)) * SIZE + (i % SIZE)];
      return end === -2 ? [0, 0, 0, 0] : [...(rgb[end] ?? rgb.at(-1)), end < 0 ? 150 : 120];
    });
    pen.drawImage(layer, box.x, box.y, box.side, box.side);
  }

  function follow_basins(values) {
    const { landscape: land, learning_rate, steps, optimizer } = values;
    const wanted =
      values.basins === "off" ? "" : [land, learning_rate, steps, optimizer, ...chosen(values)].join();
    if (wanted === settings) return;
    settings = wanted;
    basins?.stop();
    basins = wanted
      ? findBasins(facts(), chosen(values), values, (done) => (done ? frame.redraw() : drawMap(frame.values)))
      : null;
  }

  function draw(values) {
    const { size } = frame.size;
    const runs = runsOf(facts(), values);
    const now = [values.landscape, values.a, values.b, values.steps].join();
    if (now !== at) {
      at = now;
      player.pause();
      moment = 0;
    }
    follow_basins(values);
    drawMap(values);
    const [px, py] = [x(), y()];
    const ticks = [-3, -2, -1, 0, 1, 2, 3].map((t) => [t, t < 0 ? `−${-t}` : t]);
    const square = { x: box.x, y: box.y, width: box.side, height: box.side };
    under.replaceChildren(
      axes(square, { scale: px, ticks, name: "weight a" }, { scale: py, ticks, name: "" }, size),
    );
    under.append(text(box.x - size * 1.9, box.y - size * 0.3, "weight b"));
    drawZeros(px, py, size);
    over.replaceChildren();
    for (const [rule, run] of Object.entries(runs)) {
      const d = run.places
        .map(([a, b]) => `${px(clamp(a, -4, 4)).toFixed(1)},${py(clamp(b, -4, 4)).toFixed(1)}`)
        .join("L");
      over.append(
        svg("path", {
          d: `M${d}`,
          fill: "none",
          stroke: COLORS[rule],
          "stroke-width": 4,
          "stroke-dasharray": DASHES[rule],
          "clip-path": "url(#cp-map)",
        }),
      );
      const [ex, ey] = [px(run.end[0]), py(run.end[1])];
      const r = size * (rule === "mean" ? 0.55 : 0.75); // hollow: star and cross show through
      if (inside(run.end))
        over.append(
          svg("rect", {
            x: ex - r,
            y: ey - r,
            width: 2 * r,
            height: 2 * r,
            fill: "none",
            stroke: COLORS[rule],
            "stroke-width": 3,
          }),
        );
      drawMoment(rule, run, px, py, size);
    }
    for (const [name, value] of Object.entries({
      cx: px(values.a),
      cy: py(values.b),
      r: size * 0.5,
      "aria-label": "start",
      "aria-valuenow": values.a,
      "aria-valuetext": `a = ${values.a}, b = ${values.b}`,
    }))
      start.setAttribute(name, value);
    drawPlots(over, {
      facts: facts(),
      runs,
      box,
      size,
      moment,
      steps: values.steps,
      top: ground(facts()).top,
    });
    player.show(moment, values.steps);
  }

  const inside = ([a, b]) => Math.abs(a) <= 3 && Math.abs(b) <= 3;

  function drawZeros(px, py, size) {
    const marks = { shared: "★", crossing: "✖" };
    points.replaceChildren();
    for (const { a, b, kind } of facts().zeros) {
      if (!inside([a, b])) continue;
      const look = {
        "text-anchor": "middle",
        "font-size": size * 1.4,
        style: `fill:${COLORS[kind]};stroke:#fff;stroke-width:1px;paint-order:stroke`,
      };
      points.append(text(px(a), py(b) + size * 0.5, marks[kind], look));
    }
  }

  // Both examples' wishes at the moving point, and walls on the axis that the rule locks.
  function drawMoment(rule, run, px, py, size) {
    const step = Math.min(moment, run.places.length - 1);
    const point = run.places[step];
    if (!inside(point)) return;
    const [cx, cy] = [px(point[0]), py(point[1])];
    const [byA, byB] = landscape(facts()).gradients(...point);
    byA.forEach((ga, i) => {
      const length = Math.hypot(ga, byB[i]);
      const px_long = length > 1e-9 ? Math.max(ARROW * Math.min(length, 1.5), 16) / length : 0;
      const look = { stroke: "#333", "stroke-width": 3, "stroke-dasharray": EXAMPLES[i] };
      over.append(arrow(cx, cy, cx - px_long * ga, cy + px_long * byB[i], look, 10));
    });
    over.append(
      svg("circle", { cx, cy, r: size * 0.3, fill: COLORS[rule], stroke: "white", "stroke-width": 2 }),
    );
    const update = run.updates[step];
    const wall = { stroke: COLORS[rule], "stroke-width": 4 };
    const [far, half] = [size * 0.75, size * 0.45];
    for (const sign of [-1, 1]) {
      if (update?.[0] === 0)
        over.append(svg("path", { d: `M${cx + sign * far},${cy - half}v${2 * half}`, ...wall }));
      if (update?.[1] === 0)
        over.append(svg("path", { d: `M${cx - half},${cy + sign * far}h${2 * half}`, ...wall }));
    }
  }

  function told(values) {
    return Object.entries(runsOf(facts(), values)).map(([rule, run]) => `${rule}: ${endOf(run)}`);
  }

  return {
    resize({ width, height, size }) {
      drawing.setAttribute("width", width);
      drawing.setAttribute("height", height);
      const row = size * 2.2;
      const side = Math.min(height - row - size * 3.6, width * 0.52);
      box = { x: size * 2.2, y: size * 1.4, side, height: height - row - size * 1.6 };
      box.right = { x: box.x + side + size * 3.6, width: width - box.x - side - size * 4.2 };
      for (const [name, value] of Object.entries({ x: box.x, y: box.y, width: side, height: side }))
        press.setAttribute(name, value);
      player.node.style.cssText = `position:absolute; left:0; right:0; bottom:0; height:${row}px`;
    },
    draw,
    words: (values) =>
      `Landscape ${values.landscape}, start a = ${values.a}, b = ${values.b}. ${told(values).join("; ")}.`,
    status(values) {
      const parts = told(values);
      if (basins?.done) {
        chosen(values).forEach((rule, i) => {
          const part = shares(facts(), basins.ends[rule]);
          parts[i] +=
            ` (of all starts ${part.shared.toFixed(2)} shared, ${part.crossing.toFixed(2)} crossing)`;
        });
      }
      return parts.join("; ");
    },
    judge(values) {
      const runs = runsOf(facts(), values);
      if (runs.mean?.kind !== "crossing" || runs.consensus?.kind !== "shared" || values.b >= 0) return null;
      const start = `(${values.a.toFixed(2)}, ${values.b.toFixed(2)})`.replaceAll("-", "−");
      return `from ${start} the mean ends at a crossing, consensus at a shared zero.`;
    },
    ask(values) {
      const rule = chosen(values).at(-1);
      const options = ["shared", "crossing", "nowhere"];
      return {
        question: `Where does ${rule} end?`,
        options,
        answer: options.indexOf(runsOf(facts(), values)[rule].kind),
      };
    },
    close: () => basins?.stop(),
  };
}

export default { render: ({ model, el }) => makeFrame(model, el, build) };

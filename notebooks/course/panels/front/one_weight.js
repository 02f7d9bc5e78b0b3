// One weight: every example's arrow, dragged by its tip, and where the step of each rule lands.
import { makeFrame } from "./frame.js";
import { abstain, mean, veto } from "./rules.js";
import {
  arrow,
  axes,
  brief,
  COLORS,
  DASHES,
  onDrag,
  onKeys,
  placeIn,
  scale,
  signed,
  snap,
  svg,
  text,
} from "./shared.js";

const LIMITS = [1.7, 3.4, 5.6];
const NAMES = ["mean", "consensus"];

const loss = (w, g) => 0.5 * (w + g) ** 2;
const average = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

// Where each rule is after some steps from w = 0: {mean: [w0, w1, ...], consensus: [...]}.
export function pathsOf({ gradients, learning_rate, zeros, steps }) {
  const rules = { mean, consensus: zeros === "veto" ? veto : abstain };
  const paths = {};
  for (const name of NAMES) {
    paths[name] = [0];
    for (let step = 0; step < steps; step++) {
      const w = paths[name][step];
      paths[name].push(w - learning_rate * rules[name](gradients.map((g) => w + g)));
    }
  }
  return paths;
}

// "better", "worse" or "as before".
export function verdict(before, after) {
  if (Math.abs(after - before) <= 1e-9 * Math.max(before, 1)) return "as before";
  return after > before ? "worse" : "better";
}

// The numbers, from 1, of the examples whose loss is larger at w than at 0.
export function whoPays(gradients, w) {
  const numbers = gradients.map((_, i) => i + 1);
  return numbers.filter((i) => verdict(loss(0, gradients[i - 1]), loss(w, gradients[i - 1])) === "worse");
}

function list(numbers) {
  const words = numbers.map(String);
  const last = words.pop();
  return words.length ? `examples ${words.join(", ")} and ${last}` : `example ${last}`;
}

function sentence(name, w, gradients) {
  const payers = whoPays(gradients, w);
  const who =
    payers.length === 0
      ? "nobody pays"
      : payers.length === gradients.length
        ? "all pay"
        : `${list(payers)} pay${payers.length === 1 ? "s" : ""}`;
  return `${name}: ${Math.abs(w) < 1e-9 ? "w stays" : `w = ${signed(w)}`}, ${who}`;
}

function build(frame) {
  const drawing = svg("svg", {});
  const under = svg("g", {});
  const votes = svg("g", {});
  const over = svg("g", { class: "outcome" });
  const handles = svg("g", {});
  drawing.append(under, over, votes, handles);
  frame.stage.append(drawing);
  const tips = [];
  let [box, limit, held] = [null, LIMITS[0], false];

  function moveTip(i, value) {
    const { low, high } = frame.about().controls.gradients;
    const gradients = frame.values.gradients.map((g, k) =>
      k === i ? snap(value, { low, high, step: 0.1 }) : g,
    );
    frame.change({ gradients });
  }

  function tip(i) {
    const node = svg("circle", {
      class: "handle",
      tabindex: 0,
      role: "slider",
      fill: "#ffffff03",
      "stroke-width": 2.5,
    });
    const move = (event) => {
      held = true;
      moveTip(i, -x().back(placeIn(drawing, event)[0]));
    };
    const end = () => {
      held = false;
      frame.redraw();
    };
    onDrag(node, move, end);
    onKeys(node, (across, up) => moveTip(i, frame.values.gradients[i] - 0.1 * (across + up)));
    return node;
  }

  const x = () => scale(-limit, limit, box.x, box.x + box.width);

  function fit({ gradients }, paths) {
    const ends = NAMES.map((name) => Math.abs(paths[name].at(-1)));
    const largest = Math.max(...gradients.map(Math.abs), ...ends.map((end) => Math.min(end, 5)));
    const wanted = LIMITS.find((l) => l >= largest * 1.05) ?? LIMITS.at(-1);
    limit = held ? Math.max(limit, wanted) : wanted;
  }

  function draw(values) {
    const { gradients } = values;
    const paths = pathsOf(values);
    const { size } = frame.size;
    const count = gradients.length;
    fit(values, paths);
    const row = (box.height - size) / (count + 2.6);
    const y = (i) => box.y + row * (i + 0.5 + (i >= count ? 0.3 : 0));
    const place = x();
    const clip = (w) => Math.min(Math.max(place(w), box.x), box.x + box.width);
    const ticks = [-Math.floor(limit), 0, Math.floor(limit)].map((t) => [t, signed(t)]);
    under.replaceChildren(
      axes(box, { scale: place, ticks, name: "weight w (green: this example gains)" }, null, size),
    );
    over.replaceChildren();
    votes.replaceChildren();
    under.append(svg("path", { d: `M${place(0)},${box.y}V${box.y + box.height}`, stroke: "#999" }));
    const ends = NAMES.map((name) => paths[name].at(-1));
    gradients.forEach((g, i) => {
      const [from, to] = [clip(0), clip(-2 * g)];
      const band = {
        x: Math.min(from, to),
        y: y(i) - row * 0.42,
        width: Math.abs(to - from),
        height: row * 0.84,
      };
      under.append(svg("rect", { ...band, fill: COLORS.gain }));
      under.append(text(4, y(i) + size * 0.35, `example ${i + 1}`));
      votes.append(arrow(place(0), y(i), place(-g), y(i), { stroke: COLORS.neutral, "stroke-width": 4 }, 14));
      tips[i] ??= tip(i);
      const about = {
        "aria-label": `optimum of example ${i + 1}`,
        "aria-valuenow": -g,
        "aria-valuetext": `gradient ${signed(g)}`,
      };
      for (const [name, value] of Object.entries({
        ...about,
        cx: place(-g),
        cy: y(i),
        r: size * 0.5,
        stroke: COLORS.neutral,
      }))
        tips[i].setAttribute(name, value);
      if (!tips[i].parentNode) handles.append(tips[i]); // moved, it would lose the focus
    });
    for (const tip of tips.slice(count)) tip.remove();
    NAMES.forEach((name, k) => {
      const [at, color, height] = [clip(ends[k]), COLORS[name], y(count + k)];
      const line = { stroke: color, "stroke-width": 4, "stroke-dasharray": DASHES[name] };
      under.append(text(4, height + size * 0.35, name, { style: `fill:${color};font-weight:700` }));
      over.append(
        svg("path", {
          d: `M${at},${box.y}V${height}`,
          stroke: color,
          "stroke-width": 2,
          "stroke-dasharray": DASHES[name],
        }),
      );
      over.append(arrow(place(0), height, at, height, line, 14));
      for (const w of paths[name].slice(1, -1)) {
        over.append(svg("circle", { cx: clip(w), cy: height, r: 4, fill: color }));
      }
      for (let i = 0; i < count; i++) over.append(landing(name, at, y(i), color, size));
    });
    drawLosses(gradients, ends, y, row);
  }

  // Filled and hollow, so that one shows through the other.
  function landing(name, x, y, color, size) {
    const r = size * 0.27;
    if (name === "mean") return svg("circle", { cx: x, cy: y, r, fill: color });
    const square = { x: x - r * 1.4, y: y - r * 1.4, width: r * 2.8, height: r * 2.8 };
    return svg("rect", { ...square, fill: "none", stroke: color, "stroke-width": 2.5 });
  }

  // Bars of each example's loss, before and after both rules, on the right.
  function drawLosses(gradients, ends, y, row) {
    const { size } = frame.size;
    const places = { before: 0, mean: ends[0], consensus: ends[1] };
    const rows = gradients.map((g) => Object.values(places).map((w) => loss(w, g)));
    rows.push(Object.values(places).map((w) => average(gradients.map((g) => loss(w, g)))));
    const high = Math.min(row / 3.4, size * 0.95);
    const dense = high < size * 0.8; // then numbers stand in columns of their own
    const right = box.right - size * (dense ? 8 : 6);
    const most = Math.max(...rows.map((losses) => Math.min(Math.max(...losses), 4 * losses[0] + 1)), 0.1);
    const wide = scale(0, most, box.losses, right);
    under.append(text(box.losses, box.y - size * 0.35, "loss: grey before the step"));
    rows.forEach((losses, i) => {
      const middle = i < gradients.length ? y(i) : y(gradients.length) + row * 0.5;
      if (i === gradients.length) {
        under.append(
          text(box.losses - size * 0.4, middle + size * 0.35, "average", { "text-anchor": "end" }),
        );
      }
      Object.keys(places).forEach((name, k) => {
        const top = middle + (k - 1.5) * high;
        const color = COLORS[name] ?? "#8c8c8c";
        const width = Math.max(Math.min(wide(losses[k]), right) - box.losses, 1);
        const told = verdict(losses[0], losses[k]);
        const mark = k === 0 ? "" : { better: " ▼", worse: " ▲", "as before": " =" }[told];
        const into = k ? over : under;
        const words = brief(losses[k]) + mark + (told === "worse" && !dense ? " pays" : "");
        const column = {
          x: right + size * (0.2 + 4 * (k - 1)),
          y: middle - size * 0.75,
          width: size * 3.9,
          height: size * 1.4,
        };
        const line = { x: box.losses, y: top, width: box.right - box.losses, height: high - 1 };
        if (told === "worse") into.append(svg("rect", { ...(dense ? column : line), fill: COLORS.pays }));
        into.append(svg("rect", { x: box.losses, y: top + 1, width, height: high - 3, fill: color }));
        if (!dense) into.append(text(box.losses + width + 6, top + high * 0.85, words));
        else if (k) into.append(text(column.x + 3, middle + size * 0.35, words, { style: `fill:${color}` }));
      });
    });
  }

  return {
    resize({ width, height, size }) {
      drawing.setAttribute("width", width);
      drawing.setAttribute("height", height);
      const left = size * 6.3;
      const losses = width * 0.68;
      box = {
        x: left,
        y: size * 1.5,
        width: losses - left - size * 4.7,
        height: height - size * 4,
        losses,
        right: width,
      };
    },
    draw,
    words(values) {
      const paths = pathsOf(values);
      const told = NAMES.map((name) => sentence(name, paths[name].at(-1), values.gradients));
      return `${values.gradients.length} examples of one weight, gradients ${values.gradients.map(signed).join(", ")}. ${told.join(". ")}.`;
    },
    status(values) {
      const paths = pathsOf(values);
      const after = values.steps > 1 ? `After ${values.steps} steps: ` : "";
      return after + NAMES.map((name) => sentence(name, paths[name].at(-1), values.gradients)).join("; ");
    },
    judge(values) {
      const { gradients, learning_rate } = values;
      const payers = whoPays(gradients, -learning_rate * mean(gradients));
      if (gradients.length !== 3 || payers.length !== 2 || learning_rate > 1) return null;
      return `the mean step hurts examples ${payers[0]} and ${payers[1]} of three.`;
    },
    ask(values) {
      const payers = whoPays(values.gradients, pathsOf(values).mean.at(-1)).length;
      const options = values.gradients.map((_, i) => String(i));
      return { question: "How many pay for the mean?", options: [...options, "all"], answer: payers };
    },
  };
}

export default { render: ({ model, el }) => makeFrame(model, el, build) };

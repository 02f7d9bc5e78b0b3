// The family of rules: how many weights each rule moves, and which example objects.
import { makeFrame } from "./frame.js";
import { abstain, andMask, mean, powerMean, signVote, smallest, veto, weighted } from "./rules.js";
import { axes, COLORS, percent, scale, svg, text } from "./shared.js";

const [WEIGHTS, MOST, TIMES] = [200, 12, 5];
const BLOCK = WEIGHTS * (2 * MOST + 2); // numbers of a draw: shared, own, lots, lots of the mask
const BAD = "#B3261E";

// Gradients of all examples, an array of WEIGHTS each, as course.panels.agreement_panel draws them.
export function examplesOf(noise, { voters, correlation, opponents, zeros, draw }) {
  const at = (block, w) => noise[draw * BLOCK + block * WEIGHTS + w];
  return Array.from({ length: voters }, (_, i) =>
    Float64Array.from({ length: WEIGHTS }, (_, w) => {
      if (at(1 + MOST + i, w) < zeros) return 0;
      const side = i < opponents ? -1 : 1;
      return Math.sqrt(correlation) * side * at(0, w) + Math.sqrt(1 - correlation) * at(1 + i, w);
    }),
  );
}

// The mean on as many weights as have consensus, drawn by lot among those that anybody moves.
function randomMask(noise, draw, columns) {
  const begin = draw * BLOCK + (1 + 2 * MOST) * WEIGHTS;
  const count = columns.filter((g) => veto(g) !== 0).length;
  const ranks = columns.map((g, w) => noise[begin + w] - (g.some((x) => x !== 0) ? 2 : 0));
  const order = ranks.map((_, w) => w).sort((v, w) => ranks[v] - ranks[w]);
  const chosen = new Set(order.slice(0, count));
  return columns.map((g, w) => (chosen.has(w) ? mean(g) : 0));
}

// What each rule does: {rule: {update, moved, gains}}, gains as cosines, one an example.
export function rulesOn(noise, values) {
  const gradients = examplesOf(noise, values);
  const columns = Array.from({ length: WEIGHTS }, (_, w) => gradients.map((g) => g[w]));
  const { threshold, p, draw } = values;
  const rules = {
    mean,
    consensus: veto,
    abstain,
    "AND-mask": andMask(threshold),
    "power mean": powerMean(p, threshold),
    weighted,
    "sign vote": signVote,
    "least magnitude": smallest,
  };
  const updates = Object.fromEntries(Object.entries(rules).map(([name, rule]) => [name, columns.map(rule)]));
  updates["random mask"] = randomMask(noise, draw, columns);
  const length = (v) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  const told = Object.entries(updates).map(([name, update]) => {
    const moved = update.filter((x) => x !== 0).length / WEIGHTS;
    const gains = gradients.map((g) => {
      const both = length(update) * length(g);
      return both ? g.reduce((sum, x, w) => sum + x * update[w], 0) / both : 0;
    });
    return [name, { update, moved, gains }];
  });
  return Object.fromEntries(told);
}

const objections = ({ gains }) => gains.filter((gain) => gain < 0).length;

function build(frame) {
  const drawing = svg("svg", {});
  frame.stage.append(drawing);
  let box = null;
  const bytes = frame.model.get("noise");
  const noise = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const found = (values) => rulesOn(noise, values);

  function draw(values) {
    const { size, width, height } = box;
    const names = size * 8.4;
    const half = (width - names - size * 4.2) / 2;
    const [top, high] = [size * 1.6, height - size * 4.2];
    const shares = { x: names, y: top, width: half, height: high };
    const cosines = { x: names + half + size * 3.2, y: top, width: half, height: high };
    const [x, c] = [scale(0, 1, shares.x, shares.x + half), scale(-1, 1, cosines.x, cosines.x + half)];
    const floor = 2 ** (1 - values.voters);
    drawing.replaceChildren(
      axes(
        shares,
        {
          scale: x,
          ticks: [
            [0, "0"],
            [0.5, "½"],
            [1, "1"],
          ],
          name: "moved (dots: coins)",
        },
        null,
        size,
      ),
      axes(
        cosines,
        {
          scale: c,
          ticks: [
            [-1, "−1"],
            [0, "0"],
            [1, "+1"],
          ],
          name: "cosines (× objects)",
        },
        null,
        size,
      ),
      svg("path", { d: `M${c(0)},${top}v${high}`, stroke: "#999" }),
      svg("path", {
        d: `M${x(floor)},${top}v${high}`,
        stroke: "#333",
        "stroke-width": 2,
        "stroke-dasharray": "2 5",
      }),
    );
    const outcome = svg("g", { class: "outcome" });
    const row = high / 9;
    Object.entries(found(values)).forEach(([name, { moved, gains }], i) => {
      const y = top + row * (i + 0.5);
      const own = name === "mean" || name === "consensus";
      const color = own ? COLORS[name] : COLORS.neutral;
      drawing.append(
        text(names - 8, y + size * 0.35, name, {
          "text-anchor": "end",
          style: `fill:${color};font-weight:${own ? 700 : 400}`,
        }),
      );
      outcome.append(
        svg("rect", { x: x(0), y: y - row * 0.3, width: x(moved) - x(0), height: row * 0.6, fill: color }),
      );
      const inside = moved > 0.8;
      const look = inside ? { "text-anchor": "end", style: "fill:white" } : {};
      outcome.append(text(x(moved) + (inside ? -8 : 5), y + size * 0.35, percent(moved), look));
      if (!moved) return;
      for (const gain of gains) {
        const [at, r] = [c(gain), size * 0.28];
        const cross = `M${at - r},${y - r}l${2 * r},${2 * r}m0,${-2 * r}l${-2 * r},${2 * r}`;
        outcome.append(
          gain < 0
            ? svg("path", { d: cross, stroke: BAD, "stroke-width": 3 })
            : svg("circle", { cx: at, cy: y, r, fill: color, opacity: 0.75 }),
        );
      }
    });
    drawing.append(outcome);
  }

  return {
    resize(size) {
      box = size;
      drawing.setAttribute("width", size.width);
      drawing.setAttribute("height", size.height);
    },
    draw,
    words(values) {
      const told = Object.entries(found(values)).map(
        ([name, rule]) => `${name} moves ${percent(rule.moved)}, ${objections(rule)} object`,
      );
      return `${values.voters} examples: ${told.join("; ")}`;
    },
    status(values) {
      const all = Object.entries(found(values));
      const against = all.filter(([, rule]) => objections(rule)).map(([name]) => name);
      return against.length ? `Somebody objects to: ${against.join(", ")}.` : "Nobody objects to any rule.";
    },
    judge(values) {
      const { mean: plain, consensus, "AND-mask": mask } = found(values);
      const served = objections(plain) > 0 && objections(mask) === 0;
      if (!served || mask.moved < Math.max(TIMES * consensus.moved, 1 / WEIGHTS)) return null;
      return `the mask moves ${percent(mask.moved)} of the weights, consensus ${percent(consensus.moved)}. Who has more?`;
    },
    ask(values) {
      const against = Object.values(found(values)).filter((rule) => objections(rule)).length;
      const options = Array.from({ length: 10 }, (_, i) => String(i));
      return { question: "To how many of the nine rules does somebody object?", options, answer: against };
    },
  };
}

export default { render: ({ model, el }) => makeFrame(model, el, build) };

// The agreement map: every weight a cell, as all examples see it at one step of two runs.
import { count, ratios, unpack } from "./agreement.js";
import { makeFrame } from "./frame.js";
import { explainCells, labelCells, layCells, paintCells, weightAt } from "./map_cells.js";
import { makeExamples } from "./map_examples.js";
import { makePlayer } from "./player.js";
import {
  axes,
  brief,
  COLORS,
  DASHES,
  html,
  logScale,
  onDrag,
  onKeys,
  percent,
  placeIn,
  scale,
  svg,
} from "./shared.js";

const RULES = ["mean", "consensus"];
const TIMES = 3; // of the target

function build(frame) {
  const maps = RULES.map((rule) => {
    const look = { tabindex: 0, role: "img", class: "outcome", style: "cursor: crosshair" };
    const canvas = html("canvas", look);
    onDrag(canvas, (event) => choose(rule, weightAt(lay, ...placeIn(canvas, event))));
    onKeys(canvas, (across, up) =>
      choose(rule, Math.max(0, frame.values.weight) + across - up * lay.columns),
    );
    return { rule, canvas };
  });
  const drawing = svg("svg", { class: "outcome", style: "pointer-events: none" });
  const examples = makeExamples(frame);
  const player = makePlayer((moment) => frame.change({ moment }));
  frame.stage.append(...maps.map((map) => map.canvas), drawing, player.node);
  let [codes, run, lay, box, curves, counts, touchedRule, loads] = [
    null,
    null,
    null,
    null,
    {},
    null,
    "mean",
    0,
  ];

  async function load() {
    const facts = frame.model.get("run");
    const bytes = frame.model.get("recording");
    const mine = ++loads;
    [codes, run, curves, counts] = [null, null, {}, null];
    if (facts?.layers && bytes?.byteLength) {
      const weights = facts.layers.reduce((sum, layer) => sum + layer.size, 0);
      const made = await unpack(bytes, RULES, facts.steps, facts.pairs.length, weights);
      if (mine !== loads) return;
      [codes, run] = [made, { ...facts, weights, voters: facts.pairs.map((_, i) => i) }];
      if (box) lay = layCells(run.layers, box);
    }
    examples.lay(run);
    frame.redraw();
  }

  const heard = (values) => run.voters.filter((voter) => !values.without.includes(voter + 1));
  const momentOf = (values) => Math.min(values.moment, run.steps);

  function choose(rule, weight) {
    if (!run || weight < 0 || weight >= run.weights) return;
    touchedRule = rule;
    frame.change({ weight });
    frame.redraw();
  }

  function draw(values) {
    for (const { canvas } of maps) canvas.style.display = run ? "" : "none";
    drawing.replaceChildren();
    player.show(run ? momentOf(values) : 0, run?.steps ?? 0);
    if (!run || !box) return;
    const listening = heard(values);
    const moment = momentOf(values);
    counts = Object.fromEntries(
      RULES.map((rule) => [rule, count(codes[rule], moment, listening, run.weights)]),
    );
    if (curves.of !== listening.join()) {
      curves = { of: listening.join() };
      for (const rule of RULES) curves[rule] = ratios(codes[rule], run.steps, listening, run.weights);
    }
    const floor = Math.min(1, 2 ** (1 - listening.length));
    maps.forEach(({ rule, canvas }, i) => {
      const left = i * (box.map + box.gap);
      canvas.style.left = `${left}px`;
      canvas.style.right = "auto";
      paintCells(canvas, counts[rule], lay, box, values.touched - 1);
      labelCells(drawing, rule, left, counts[rule], lay, box, floor, values.weight);
      canvas.setAttribute(
        "aria-label",
        `map of the ${rule}: agreed on ${percent(counts[rule].agreed)} of the weights`,
      );
    });
    explainCells(drawing, box);
    drawCurves(floor, moment);
    examples.draw(values, { run, codes, counts, heard: listening, moment, rule: touchedRule, box });
  }

  // Loss and agreed share of both runs, with the step that the maps show.
  function drawCurves(floor, moment) {
    const { size, curvesTop, curvesHigh, width } = box;
    const wide = width / 2 - size * 4.5;
    const mean = (each) => each.reduce((sum, loss) => sum + loss, 0) / each.length;
    const losses = Object.fromEntries(RULES.map((rule) => [rule, run.losses[rule].map(mean)]));
    const all = RULES.flatMap((rule) => losses[rule]);
    const [low, high] = [10 ** Math.floor(Math.log10(Math.max(Math.min(...all), 1e-6))), Math.max(...all)];
    const top = Math.max(0.6, ...RULES.flatMap((rule) => curves[rule]));
    const [bottom, ceiling] = [curvesTop + curvesHigh, curvesTop];
    const plots = [
      [
        size * 3.2,
        logScale(low, high, bottom, ceiling),
        losses,
        "loss",
        [
          [low, `1e−${-Math.log10(low)}`],
          [high, brief(Number(high.toPrecision(2)))],
        ],
      ],
      [
        width / 2 + size * 4,
        scale(0, top, bottom, ceiling),
        curves,
        "agreed share (dots: coins)",
        [
          [0, "0"],
          [0.5, "½"],
        ],
      ],
    ];
    const line = (d, look) => drawing.append(svg("path", { d, fill: "none", "stroke-width": 3, ...look }));
    for (const [left, y, values, name, ticks] of plots) {
      const x = scale(0, run.steps, left, left + wide);
      const at = { x: left, y: curvesTop, width: wide, height: curvesHigh };
      drawing.append(axes(at, null, { scale: y, ticks, name }, size));
      for (const rule of RULES) {
        const d = values[rule].map((value, t) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`).join("L");
        line(`M${d}`, { stroke: COLORS[rule], "stroke-dasharray": DASHES[rule] });
      }
      if (values === curves)
        line(`M${left},${y(floor)}h${wide}`, {
          stroke: "#333",
          "stroke-width": 2,
          "stroke-dasharray": "2 4",
        });
      line(`M${x(moment)},${ceiling}v${curvesHigh}`, { stroke: "#b3008a" });
    }
  }

  frame.model.on("change:run", load);
  load();

  const story = (rule) =>
    `${rule}: agreed on ${percent(counts[rule].agreed)}, dead ${percent(counts[rule].dead)}`;
  return {
    tab: { name: "Examples", node: examples.node },
    resize({ width, height, size }) {
      drawing.setAttribute("width", width);
      drawing.setAttribute("height", height);
      const row = size * 2.1;
      const curvesHigh = size * 3.2;
      const curvesTop = height - row - curvesHigh - size * 0.4;
      const gap = size * 1.2;
      const map = Math.floor((width - gap) / 2);
      box = { size, width, gap, map, maps: curvesTop - size * 1.2, curvesTop, curvesHigh, left: height };
      player.node.style.cssText = `position:absolute; left:0; right:0; bottom:0; height:${row}px`;
      if (run) lay = layCells(run.layers, box);
    },
    draw,
    words(values) {
      if (!run || !counts) return "Nothing is recorded yet.";
      const off = values.without.length ? `without example ${values.without.join(", ")}` : "all examples";
      return `Votes on ${run.weights} weights at step ${momentOf(values)}, ${off}. ${RULES.map(story).join("; ")}.`;
    },
    status: () => (run && counts ? RULES.map(story).join("; ") : ""),
    judge(values) {
      if (!run || !counts || values.without.length) return null;
      for (const rule of RULES) {
        const { alone, agreed } = counts[rule];
        const most = Math.max(...alone);
        const where = `${rule}, step ${momentOf(values)}: example ${alone.indexOf(most) + 1}`;
        if (agreed > 0 && most >= TIMES * agreed)
          return `${where} alone vetoes ${percent(most)}, all agree on ${percent(agreed)}.`;
      }
      return null;
    },
    ask() {
      const tops = [5, 10, 20, 40, 100];
      const options = tops.map((top, i) => `${i ? tops[i - 1] : 0} to ${top}`);
      const share = run && curves.consensus ? 100 * curves.consensus[Math.min(100, run.steps)] : 0;
      const question = "Of 100 cells, how many are coloured at step 100 of consensus?";
      return { question, options, answer: tops.findIndex((top) => share <= top) };
    },
    close: () => frame.model.off("change:run", load),
  };
}

export default { render: ({ model, el }) => makeFrame(model, el, build) };

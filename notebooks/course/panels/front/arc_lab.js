// The ARC lab: a task, runs that grow, their curves one over the other, and a table.
import { makeGrids } from "./arc_grids.js";
import { makeFrame } from "./frame.js";
import { axes, brief, COLORS, DASHES, html, logScale, scale, svg, text } from "./shared.js";

const OTHERS = ["#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7B3294"];
const USES = { consensus: ["zeros"], "AND-mask": ["threshold"], "power mean": ["threshold", "p"] };
const CURVES = [
  ["loss", "training loss, log"],
  ["ratio", "consensus ratio"],
  ["right", "changed cells right"],
];

function build(frame) {
  const { model } = frame;
  const grids = makeGrids((task) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => frame.send({ do: "upload", name: "painted.json", task }), 400);
  });
  let [box, waiting] = [null, null];
  const drawing = svg("svg", { class: "outcome", style: "pointer-events: none" });
  const table = html("div", {
    class: "cp-scroll outcome",
    tabindex: 0,
    role: "region",
    "aria-label": "runs",
  });
  const python = html("pre", {
    class: "cp-scroll",
    tabindex: 0,
    "aria-label": "Python that repeats the run",
  });
  const button = (words, click) => html("button", { type: "button", click }, words);
  const paint = button("Paint a task", () => {
    grids.paintMode(!grids.painting);
    paint.setAttribute("aria-pressed", String(grids.painting));
    if (grids.painting) frame.say("Click cells, or use arrows and digits: the task becomes your own.");
    else frame.say("");
  });
  const save = button("Export", () => frame.send({ do: "export" }));
  const tools = html("div", { class: "cp-tools" }, paint, grids.palette, save);
  const foot = html("div", { class: "cp-foot" }, table, html("div", { class: "cp-side" }, tools, python));
  frame.stage.append(grids.canvas, drawing, foot);

  const other = html("input", { placeholder: "id or path", "aria-label": "other task" });
  other.addEventListener("change", () => other.value.trim() && frame.send({ do: "task", name: other.value }));
  const file = html("input", { type: "file", accept: ".json", "aria-label": "your file" });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (chosen) frame.send({ do: "upload", name: chosen.name, text: await chosen.text() });
    file.value = "";
  });
  const more = html(
    "div",
    { class: "cp-many" },
    html("label", {}, "other task", other),
    html("label", {}, "your file", file),
  );

  function onExport(files) {
    for (const [name, content] of Object.entries(files)) {
      const blob = name.endsWith(".png")
        ? `data:image/png;base64,${content}`
        : URL.createObjectURL(new Blob([content], { type: "text/csv" }));
      html("a", { href: blob, download: name }).click();
    }
  }
  model.on("msg:custom", onExport);

  const board = () => model.get("board") ?? { runs: [] };

  // Mean and consensus keep their colours; a second run of a rule, and others, take the next one.
  function looks() {
    const used = new Set();
    return board().runs.map((run) => {
      const own = COLORS[run.rule];
      const free = run.rule in DASHES || run.rule === "mean" ? own : undefined;
      const color = free && !used.has(free) ? free : OTHERS.find((one) => !used.has(one));
      used.add(color);
      return { run, color, dash: DASHES[run.rule] ?? "" };
    });
  }

  function draw() {
    if (!box) return;
    const task = model.get("task");
    const all = looks();
    const hidden = frame.root.classList.contains("hiding");
    const mine = hidden ? [] : all.filter(({ run }) => run.task === task.id).slice(-2);
    const { width, grids: high, size } = box;
    const colorOf = (run) => all.find((look) => look.run === run).color;
    if (!grids.painting)
      grids.draw({
        task: structuredClone(task),
        runs: mine.map(({ run }) => run),
        width,
        height: high,
        size,
        colorOf,
      });
    drawing.replaceChildren();
    for (const [i, [name, words]] of CURVES.entries()) drawPlot(name, words, i, all);
    if (table.innerHTML !== board().table) table.innerHTML = board().table || "Runs will stand here.";
    python.textContent = board().python;
  }

  function drawPlot(name, words, i, all) {
    const { size, width, top, high } = box;
    const each = width / 3;
    const at = {
      x: each * i + size * 2.9,
      y: top + size * 1.3,
      width: each - size * 4.2,
      height: high - size * 2.6,
    };
    const points = all.flatMap(({ run }) => run.curves.flatMap((curve) => curve[name]));
    const values = points.map(([, value]) => value);
    const last = Math.max(frame.values.steps, ...all.map(({ run }) => run.steps));
    const x = scale(0, last, at.x, at.x + at.width);
    let [y, ticks] = [
      scale(0, 1, at.y + at.height, at.y),
      [
        [0, "0"],
        [0.5, "½"],
        [1, "1"],
      ],
    ];
    if (name === "loss") {
      const low = 10 ** Math.floor(Math.log10(Math.max(Math.min(...values, 0.1), 1e-6)));
      const most = 10 ** Math.ceil(Math.log10(Math.min(Math.max(...values, 1), 1e4)));
      y = logScale(low, most, at.y + at.height, at.y);
      ticks = [low, most].map((value) => [value, brief(value).replace(".0e", "e")]);
    }
    drawing.append(
      axes(
        at,
        {
          scale: x,
          ticks: [
            [0, "0"],
            [last, String(last)],
          ],
          name: "",
        },
        { scale: y, ticks, name: words },
        size,
      ),
    );
    if (name === "ratio") {
      for (const floor of new Set(all.map(({ run }) => run.floor))) {
        drawing.append(
          svg("path", { d: `M${at.x},${y(floor)}h${at.width}`, stroke: "#333", "stroke-dasharray": "2 4" }),
        );
        drawing.append(text(at.x + at.width, y(floor) - 4, "coins", { "text-anchor": "end" }));
      }
    }
    const taken = [];
    all.forEach(({ run, color, dash }) => {
      run.curves.forEach((curve, seed) => {
        const d = curve[name]
          .map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`)
          .join("L");
        const newest = seed === run.curves.length - 1;
        const look = { stroke: color, "stroke-dasharray": dash, "stroke-width": newest ? 3 : 1.5 };
        if (d) drawing.append(svg("path", { d: `M${d}`, fill: "none", opacity: newest ? 1 : 0.6, ...look }));
      });
      const end = run.curves.at(-1)?.[name].at(-1);
      if (!end) return;
      let place = y(end[1]) + size * 0.35;
      while (taken.some((other) => Math.abs(other - place) < size * 0.8)) place -= size * 0.8;
      taken.push(place);
      const style = `fill:${color};font-weight:700`;
      drawing.append(text(x(end[0]) + 4, place, run.number, { style }));
    });
  }

  const redraw = () => frame.redraw();
  for (const name of ["board", "task"]) model.on(`change:${name}`, redraw);

  return {
    extras: { Task: more },
    buttons: [
      ["Compare", "compare"],
      ["Clear runs", "clear"],
    ],
    told() {},
    resize({ width, height, size }) {
      drawing.setAttribute("width", width);
      drawing.setAttribute("height", height);
      const foot_high = size * 5.6;
      const rest = height - foot_high;
      box = { width, size, grids: rest * 0.54, top: rest * 0.54, high: rest * 0.46 };
      foot.style.cssText = `position:absolute; left:0; right:0; bottom:0; height:${foot_high}px`;
    },
    draw,
    idle({ rule, augmentation }) {
      const unused = ["zeros", "threshold", "p"].filter((name) => !USES[rule]?.includes(name));
      return augmentation === "none" ? [...unused, "voters"] : unused;
    },
    words() {
      const told = board().runs.map((run) => `run ${run.label}, step ${run.step} of ${run.steps}`);
      return `Task ${model.get("task").id}. ${told.join("; ") || "No run yet."}`;
    },
    ask() {
      const { rule } = frame.values;
      const options = ["mean", rule === "mean" ? "consensus" : rule];
      const pair = board().runs.slice(-2);
      const fits =
        pair.length === 2 && pair.every((run, i) => run.rule === options[i] && run.ended === "done");
      const ends = pair.map((run) => run.curves.at(-1).loss.at(-1)[1]);
      const answer = fits ? Number(ends[1] < ends[0]) : -1;
      return { question: "Compare: whose training loss is lower at the end?", options, answer };
    },
    close() {
      for (const name of ["board", "task"]) model.off(`change:${name}`, redraw);
      model.off("msg:custom", onExport);
    },
  };
}

export default { render: ({ model, el }) => makeFrame(model, el, build) };

// Beside the agreement map: the examples as voters, the test grid, and one weight's arrows.
import { sizeOf } from "./agreement.js";
import { abstain, mean, veto } from "./rules.js";
import { arrow, brief, COLORS, DASHES, drawGrid, html, scale, signed, sized, svg, text } from "./shared.js";

const RULES = ["mean", "consensus"];

// A row an example: a switch, its grids, its loss, and how often it alone is in the way.
export function makeExamples(frame) {
  const node = html("div", { class: "cp-examples" });
  const grids = html("canvas", { class: "outcome", role: "img", "aria-label": "the test grid" });
  const arrows = svg("svg", { class: "outcome" });
  let rows = [];

  function row(voter) {
    const number = voter + 1;
    const canvas = html("canvas", {});
    const words = html("span", {});
    const on = html("input", { type: "checkbox", "aria-label": `example ${number} votes` });
    on.addEventListener("change", () => {
      const without = frame.values.without.filter((n) => n !== number);
      frame.change({ without: on.checked ? without : [...without, number].sort((a, b) => a - b) });
    });
    const click = () => frame.change({ touched: frame.values.touched === number ? 0 : number });
    const name = `vetoes of example ${number}`;
    const touch = html(
      "button",
      { type: "button", class: "cp-touch", "aria-label": name, click },
      canvas,
      words,
    );
    node.append(html("div", { class: "cp-example" }, on, touch));
    return { canvas, words, on, touch, number };
  }

  function lay(run) {
    node.replaceChildren();
    rows = (run?.voters ?? []).map(row);
    if (run) node.append(grids, arrows);
    else node.append("Press Start: two runs of one network are recorded, by the mean and by consensus.");
  }

  // `state` has run, codes, counts, heard, moment, rule (of the map that was touched), box.
  function draw(values, state) {
    const { run, counts, heard, moment, rule, box } = state;
    const width = node.clientWidth;
    if (!width) return;
    const room = Math.min((box.left - box.size * (12.5 + 1.4 * rows.length)) / rows.length, box.size * 4);
    for (const { canvas, words, on, touch, number } of rows) {
      const [input, output] = run.pairs[number - 1];
      const across = 2 * input[0].length + 1;
      const cell = Math.max(2, Math.min((room - 10) / input.length, (width - box.size * 9.3) / across));
      const pen = sized(canvas, across * cell, input.length * cell);
      drawGrid(pen, input, 0, 0, cell);
      drawGrid(pen, output, (input[0].length + 1) * cell, 0, cell);
      on.checked = !values.without.includes(number);
      touch.setAttribute("aria-pressed", String(values.touched === number));
      const place = heard.indexOf(number - 1);
      const share = place < 0 ? "off" : `vetoes ${Math.round(100 * counts[rule].alone[place])}\u00a0%`;
      const loss = Number(run.losses[rule][moment][number - 1].toPrecision(2));
      words.replaceChildren(`loss ${brief(loss)}`, html("br"), share);
    }
    drawTest(width, state);
    drawArrows(width, values, state);
  }

  function drawTest(width, { run, moment, box: { size } }) {
    const shown = [["input", run.input], ...RULES.map((rule) => [rule, run.predictions[rule][moment]])];
    shown.push(["target", run.target]);
    const cell = Math.min((width / 2 - 10) / run.input[0].length, (size * 2) / run.input.length);
    const high = run.input.length * cell + size * 1.25;
    const pen = sized(grids, width, 2 * high);
    pen.font = `${size}px system-ui, sans-serif`;
    shown.forEach(([name, grid], i) => {
      const [x, y] = [(i % 2) * (width / 2), Math.floor(i / 2) * high];
      pen.fillStyle = COLORS[name] ?? "#1a1a1a";
      pen.fillText(name, x, y + size * 0.9);
      if (grid) drawGrid(pen, grid, x, y + size * 1.15, cell, RULES.includes(name) ? run.target : null);
    });
    const wrong = RULES.map((rule) => {
      const flat = run.predictions[rule][moment].flat();
      return `${rule} ${run.target ? flat.filter((color, i) => color !== run.target.flat()[i]).length : "?"}`;
    });
    grids.setAttribute("aria-label", `test grid, wrong cells: ${wrong.join(", ")}`);
  }

  // Where each example wants the chosen weight to go, and where both rules would move it.
  function drawArrows(width, { weight, zeros }, { run, codes, heard, moment, rule, box: { size } }) {
    const line = size * 0.98;
    arrows.setAttribute("width", width);
    arrows.setAttribute("height", line * (rows.length + 3));
    arrows.replaceChildren();
    if (weight < 0 || weight >= run.weights) {
      arrows.append(text(0, size, "Touch a cell of a map:"), text(0, size * 2.1, "its arrows appear here."));
      return;
    }
    const g = run.voters.map((voter) => sizeOf(codes[rule](moment, voter)[weight]));
    const listening = heard.map((voter) => g[voter]);
    const updates = { mean: mean(listening), consensus: (zeros === "veto" ? veto : abstain)(listening) };
    const most = Math.max(...g.map(Math.abs), 1e-30);
    const x = scale(-most, most, size * 3.2, width - size * 5.2);
    arrows.append(text(0, size * 0.9, `weight ${weight}, ${rule}`));
    const each = g.map((value, i) => [`ex. ${i + 1}`, value, heard.includes(i) ? "#444" : "#aaa", ""]);
    for (const name of RULES)
      each.push([name === "mean" ? "mean" : "cons.", updates[name], COLORS[name], DASHES[name]]);
    each.forEach(([name, value, color, dash], i) => {
      const y = line * (i + 1.7);
      const look = { style: `fill:${color}` };
      arrows.append(text(0, y + size * 0.3, name, look));
      arrows.append(
        arrow(x(0), y, x(-value), y, { stroke: color, "stroke-width": 3, "stroke-dasharray": dash }),
      );
      const about = `≈${signed(Number(value.toPrecision(2)))}`;
      arrows.append(text(width, y + size * 0.3, value ? about : "0", { ...look, "text-anchor": "end" }));
    });
  }

  return { node, lay, draw };
}

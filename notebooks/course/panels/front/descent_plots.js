// What stands beside and below a descent: losses, weights that move, the wave, and the ground.
import { landscape } from "./landscapes.js";
import { axes, brief, COLORS, DASHES, scale, svg, text } from "./shared.js";

export const EXAMPLES = ["", "3 4"]; // their dashes
const [BANDS, PIXELS] = [12, 160];
const grounds = {};

// How a run ended, in few words.
export function endOf(run) {
  return run.kind === "nowhere" ? `stops at loss ${brief(run.left)}` : run.kind;
}

// Losses of both examples and the weights that move, a plot a rule; and the wave, if any.
export function drawPlots(over, { facts, runs, box, size, moment, steps, top: most }) {
  const wave = facts.kind === "waves";
  const count = Object.keys(runs).length;
  const gap = size * 1.9;
  const rows = count + (wave ? 1 : 0);
  const high = (box.height - gap * rows - size * 1.4) / rows;
  const px = scale(0, steps, box.right.x, box.right.x + box.right.width);
  const land = landscape(facts);
  Object.entries(runs).forEach(([rule, run], row) => {
    const top = box.y + row * (high + gap);
    const bars = size * 2.1;
    const plot = { x: box.right.x, y: top, width: box.right.width, height: high - bars };
    const py = scale(0, most, plot.y + plot.height, plot.y);
    const ticks = [
      [0, "0"],
      [most, brief(most)],
    ];
    over.append(axes(plot, null, { scale: py, ticks }, size));
    over.append(
      text(plot.x + plot.width, top - size * 0.3, `${rule}: ${endOf(run)}`, {
        "text-anchor": "end",
        style: `fill:${COLORS[rule]};font-weight:600`,
      }),
    );
    if (!row) over.append(text(plot.x, top - size * 0.3, "loss"));
    const losses = run.places.map(([a, b]) => land.losses(a, b));
    for (let i = 0; i < land.examples; i++) {
      const d = losses
        .map((each, t) => `${px(t).toFixed(1)},${py(Math.min(each[i], most)).toFixed(1)}`)
        .join("L");
      over.append(
        svg("path", {
          d: `M${d}`,
          fill: "none",
          stroke: COLORS[rule],
          "stroke-width": 3,
          "stroke-dasharray": EXAMPLES[i],
        }),
      );
    }
    ["a", "b"].forEach((name, w) => {
      const middle = plot.y + plot.height + size * (0.8 + 0.85 * w);
      over.append(text(plot.x - 8, middle + size * 0.35, name, { "text-anchor": "end" }));
      const d = run.updates
        .map((update, t) => (update[w] ? `M${px(t)},${middle}H${px(t + 1)}` : ""))
        .join("");
      over.append(svg("path", { d, stroke: COLORS[rule], "stroke-width": size * 0.5 }));
    });
    over.append(svg("path", { d: `M${px(moment)},${top}v${high}`, stroke: "#333" }));
  });
  const below = box.y + count * (high + gap) - size * 0.75;
  if (!wave) over.append(text(box.right.x, below, "bars: it moves; dots: example 2"));
  else
    drawWave(over, facts, runs, moment, {
      x: box.right.x,
      y: below + size * 0.4,
      width: box.right.width,
      height: high,
    });
}

function drawWave(over, facts, runs, moment, plot) {
  const { inputs, targets, truth } = facts;
  const px = scale(-2.2, 2.2, plot.x, plot.x + plot.width);
  const py = scale(-1.2, 1.2, plot.y + plot.height, plot.y);
  const curve = (a, b, look) => {
    const d = Array.from({ length: 89 }, (_, i) => -2.2 + i * 0.05).map(
      (v) => `${px(v).toFixed(1)},${py(Math.sin(a * v + b)).toFixed(1)}`,
    );
    over.append(svg("path", { d: `M${d.join("L")}`, fill: "none", "stroke-width": 3, ...look }));
  };
  curve(...truth, { stroke: "#bbb", "stroke-width": 6 });
  for (const [rule, run] of Object.entries(runs)) {
    curve(...run.places[Math.min(moment || run.places.length - 1, run.places.length - 1)], {
      stroke: COLORS[rule],
      "stroke-dasharray": DASHES[rule],
    });
  }
  inputs.forEach((xs, i) => {
    xs.forEach((v, j) => {
      over.append(
        svg("circle", {
          cx: px(v),
          cy: py(targets[i][j]),
          r: 6,
          fill: i ? "white" : "#333",
          stroke: "#333",
          "stroke-width": 3,
        }),
      );
    });
  });
}

// The pooled loss in grey bands, white at 0; made once a landscape.
export function ground(facts) {
  const name = JSON.stringify(facts);
  if (grounds[name]) return grounds[name];
  const land = landscape(facts);
  const losses = [];
  let top = 0;
  for (let row = 0; row < PIXELS; row++) {
    for (let column = 0; column < PIXELS; column++) {
      const each = land.losses(-3 + (6 * (column + 0.5)) / PIXELS, 3 - (6 * (row + 0.5)) / PIXELS);
      top = Math.max(top, ...each);
      losses.push(each.reduce((sum, loss) => sum + loss, 0) / each.length);
    }
  }
  const greys = losses.map((loss) => {
    const band = Math.min(Math.floor(Math.sqrt(loss / top) * BANDS), BANDS - 1) / (BANDS - 1);
    return 255 * (1 - 0.38 * band);
  });
  grounds[name] = { image: picture(PIXELS, (i) => [greys[i], greys[i], greys[i], 255]), top };
  return grounds[name];
}

// A square image of side x side pixels, each [red, green, blue, opacity].
export function picture(side, colorOf) {
  const canvas = new OffscreenCanvas(side, side);
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set(colorOf(i), 4 * i);
  pen.putImageData(image, 0, 0);
  return canvas;
}

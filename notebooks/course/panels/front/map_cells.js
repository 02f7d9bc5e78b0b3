// The cells of the agreement map: laid out layer by layer, painted as pixels, named and counted.
import { CONTESTED, DEAD, DOWN, UP } from "./agreement.js";
import { COLORS, percent, sized, svg, text } from "./shared.js";

const GREEN = [0, 136, 55];
const PURPLE = [123, 50, 148];
const GREY = [120, 120, 120];
const YELLOW = [255, 190, 0];
const LABEL = 1.3; // lines of text below each layer

// The largest cells with which all layers fit below one another.
export function layCells(layers, { map, maps, size }) {
  let laid = null;
  for (let cell = 8; cell >= 1; cell--) {
    const columns = Math.floor(map / cell);
    let top = size * 1.5;
    const parts = layers.map((layer) => {
      const part = { ...layer, top, rows: Math.ceil(layer.size / columns) };
      top += part.rows * cell + size * LABEL;
      return part;
    });
    laid = { cell, columns, parts, height: top };
    if (top <= maps) break;
  }
  return laid;
}

// The number of the weight at a place of a map, -1 where there is none.
export function weightAt({ cell, columns, parts }, x, y) {
  let first = 0;
  for (const { top, rows, size } of parts) {
    const [row, column] = [Math.floor((y - top) / cell), Math.floor(x / cell)];
    const inside = row * columns + column;
    if (row >= 0 && row < rows && column >= 0 && column < columns && inside < size) return first + inside;
    first += size;
  }
  return -1;
}

function colorOf(state, level, lit) {
  if (lit) return YELLOW;
  if (state === CONTESTED) return GREY;
  // Pale where the least of the examples hardly cares.
  const strength = Math.min(1, Math.max(0.4, 0.4 + (level - 50) / 50));
  return (state === UP ? GREEN : PURPLE).map((value) => 255 - (255 - value) * strength);
}

// One map: a full cell is up, one with a hole down, a dot contested; a dead weight is left white.
export function paintCells(canvas, { states, least, blocker }, lay, box, touched) {
  const { cell, columns, parts } = lay;
  const ratio = window.devicePixelRatio || 1;
  const c = Math.max(1, Math.round(cell * ratio));
  const side = c - (c > 3 ? 1 : 0);
  const centre = Math.floor((c - 1) / 2);
  const pen = sized(canvas, box.map, lay.height);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  let first = 0;
  for (const part of parts) {
    const image = pen.createImageData(columns * c, part.rows * c);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < part.size; i++) {
      const w = first + i;
      const state = states[w];
      if (state === DEAD) continue;
      const lit = state === CONTESTED && touched >= 0 && (blocker[w] === touched || blocker[w] === -2);
      const [r, g, b] = colorOf(state, least[w], lit);
      const color = (255 << 24) | (b << 16) | (g << 8) | r;
      const dot = state === CONTESTED && !lit && c > 2;
      const hole = state === DOWN && c > 2;
      const corner = Math.floor(i / columns) * c * columns * c + (i % columns) * c;
      if (dot) {
        pixels[corner + centre * columns * c + centre] = color;
        continue;
      }
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          if (!(hole && x === centre && y === centre)) pixels[corner + y * columns * c + x] = color;
        }
      }
    }
    pen.putImageData(image, 0, Math.round(part.top * ratio));
    first += part.size;
  }
}

// The name of a map, and of each layer with its share and the coin-flip floor as a tick.
export function labelCells(group, rule, left, { states, agreed }, lay, box, floor, chosen) {
  const { size } = box;
  const bold = `fill:${COLORS[rule]};font-weight:700`;
  group.append(text(left, size * 0.9, `${rule}: ${percent(agreed)} agreed`, { style: bold }));
  let first = 0;
  for (const part of lay.parts) {
    let count = 0;
    for (let i = first; i < first + part.size; i++) if (states[i] === UP || states[i] === DOWN) count += 1;
    const share = count / part.size;
    const y = part.top + part.rows * lay.cell + size * 0.92;
    const [from, wide] = [left + size * 8.6, box.map - size * 8.8];
    const bar = { x: from, y: y - size * 0.62, height: size * 0.5 };
    group.append(text(left, y, `${part.name}: ${percent(share)}`));
    group.append(svg("rect", { ...bar, width: wide, fill: COLORS.pale }));
    group.append(svg("rect", { ...bar, width: wide * share, fill: COLORS[rule] }));
    const tick = `M${from + wide * floor},${y - size * 0.85}v${size * 0.95}`;
    group.append(svg("path", { d: tick, stroke: "#000", "stroke-width": 2 }));
    const at = chosen - first;
    if (at >= 0 && at < part.size) {
      const x = left + (at % lay.columns) * lay.cell - 4;
      const top = part.top + Math.floor(at / lay.columns) * lay.cell - 4;
      const ring = { x, y: top, width: lay.cell + 8, height: lay.cell + 8 };
      group.append(svg("rect", { ...ring, fill: "none", stroke: "#b3008a", "stroke-width": 3 }));
    }
    first += part.size;
  }
}

// What the cells mean: at the right end of the maps' names, and above the curves.
export function explainCells(group, box) {
  const { size, map, gap } = box;
  const mark = (right, color, words, hollow = false) => {
    const side = size * 0.8;
    const x = right - words.length * size * 0.56;
    const square = {
      x: x - size,
      y: size * 0.9 - side,
      width: side,
      height: side,
      fill: `rgb(${color.join()})`,
    };
    group.append(text(x, size * 0.9, words), svg("rect", square));
    const third = side / 3;
    const hole = { x: square.x + third, y: square.y + third, width: third, height: third, fill: "white" };
    if (hollow) group.append(svg("rect", hole));
  };
  mark(map, PURPLE, "down", true);
  mark(map - size * 3.9, GREEN, "up");
  mark(2 * map + gap, YELLOW, "its veto");
  const right = { "text-anchor": "end" };
  group.append(text(map, box.curvesTop - size * 0.45, "grey: contested, white: dead", right));
}

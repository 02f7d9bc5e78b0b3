// Where each start of a square leads, found in slices between two frames, coarse first.
import { descend, landscape, whichZero } from "./landscapes.js";

export const SIZE = 60;
const SLICE = 9; // ms of each frame
const BLOCKS = [12, 4, 2, 1];

// The fields of the square in the order in which they are found: [row, column, block].
function order() {
  const seen = new Uint8Array(SIZE * SIZE);
  const fields = [];
  for (const block of BLOCKS) {
    const half = Math.floor(block / 2);
    for (let row = half; row < SIZE; row += block) {
      for (let column = half; column < SIZE; column += block) {
        if (seen[row * SIZE + column]) continue;
        seen[row * SIZE + column] = 1;
        fields.push([row, column, block]);
      }
    }
  }
  return fields;
}

const ORDER = order();

// Begin to find the zero point (its number, -1 for none) of each start, rows from the lowest b.
// `ends` fills up; `then(done)` is called after each slice. Returns {ends, counts, stop, done}.
export function findBasins(facts, rules, settings, then) {
  const land = landscape(facts);
  const [[lowA, lowB], [highA, highB]] = facts.corners;
  const found = {
    ends: Object.fromEntries(rules.map((rule) => [rule, new Int8Array(SIZE * SIZE).fill(-2)])),
    exact: Object.fromEntries(rules.map((rule) => [rule, new Int8Array(SIZE * SIZE).fill(-2)])),
    done: false,
    stop: () => {
      stopped = true;
    },
  };
  let [next, stopped] = [0, false];
  function work() {
    const begin = performance.now();
    while (next < ORDER.length && performance.now() - begin < SLICE) {
      const [row, column, block] = ORDER[next++];
      const start = [
        lowA + ((highA - lowA) * (column + 0.5)) / SIZE,
        lowB + ((highB - lowB) * (row + 0.5)) / SIZE,
      ];
      for (const rule of rules) {
        const zero = whichZero(land, facts.zeros, descend(land, start, rule, settings, false));
        found.exact[rule][row * SIZE + column] = zero;
        paint(found, rule, row, column, block, zero);
      }
    }
    found.done = next >= ORDER.length;
    if (stopped) return;
    then(found.done);
    if (!found.done) requestAnimationFrame(work);
  }
  requestAnimationFrame(work);
  return found;
}

// Fill the block around a field, where nothing finer is known.
function paint({ ends, exact }, rule, row, column, block, zero) {
  const half = Math.floor(block / 2);
  for (let r = row - half; r < Math.min(row - half + block, SIZE); r++) {
    for (let c = column - half; c < Math.min(column - half + block, SIZE); c++) {
      const place = r * SIZE + c;
      if (exact[rule][place] === -2 || place === row * SIZE + column) ends[rule][place] = zero;
    }
  }
}

// The share of starts that end at each kind of zero point, of a whole map.
export function shares(facts, ends) {
  const counts = { shared: 0, crossing: 0, nowhere: 0 };
  for (const zero of ends) counts[zero < 0 ? "nowhere" : facts.zeros[zero].kind] += 1;
  return Object.fromEntries(Object.entries(counts).map(([kind, n]) => [kind, n / ends.length]));
}

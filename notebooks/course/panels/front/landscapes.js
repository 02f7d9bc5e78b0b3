// The landscapes of two weights, and descents on them, as course.toys has them.
import { abstain, andMask, mean, veto, weighted } from "./rules.js";

export const RULES = { mean, consensus: veto, abstain, "AND-mask": andMask(1), weighted };
const LOSS_AT_ZERO = 1e-6; // of course.toys.basins

// The losses and gradients of all examples at (a, b): {examples, losses(a, b), gradients(a, b)},
// gradients as [by a, by b], each an array of one number an example.
export function landscape(facts) {
  return facts.kind === "wells" ? wells(facts) : waves(facts);
}

function wells({ at, shape }) {
  const examples = at.length;
  const count = at[0].length;
  const flat = at.map((points, i) => points.map(([a, b], k) => [a, b, ...shape[i][k].flat()]));
  const [well, slopeA, slopeB] = [0, 1, 2].map(() => new Float64Array(count));
  function measure(i, a, b) {
    for (let k = 0; k < count; k++) {
      const form = flat[i][k];
      const [x, y] = [a - form[0], b - form[1]];
      slopeA[k] = form[2] * x + form[3] * y;
      slopeB[k] = form[4] * x + form[5] * y;
      const q = (x * slopeA[k] + y * slopeB[k]) / 2;
      well[k] = q / (1 + q);
    }
  }
  return {
    examples,
    losses: (a, b) =>
      at.map((_, i) => {
        measure(i, a, b);
        return well.reduce((product, part) => product * part, 1);
      }),
    gradients(a, b) {
      const by = [new Array(examples), new Array(examples)];
      for (let i = 0; i < examples; i++) {
        measure(i, a, b);
        let [ga, gb] = [0, 0];
        for (let k = 0; k < count; k++) {
          let others = 1;
          for (let m = 0; m < count; m++) if (m !== k) others *= well[m];
          const pull = others * (1 - well[k]) ** 2;
          ga += pull * slopeA[k];
          gb += pull * slopeB[k];
        }
        by[0][i] = ga;
        by[1][i] = gb;
      }
      return by;
    },
  };
}

function waves({ inputs, targets }) {
  return {
    examples: inputs.length,
    losses: (a, b) =>
      inputs.map((xs, i) => {
        const sum = xs.reduce((s, x, j) => s + (Math.sin(a * x + b) - targets[i][j]) ** 2, 0);
        return sum / xs.length / 2;
      }),
    gradients(a, b) {
      const by = [[], []];
      inputs.forEach((xs, i) => {
        let [ga, gb] = [0, 0];
        xs.forEach((x, j) => {
          const angle = a * x + b;
          const pull = (Math.sin(angle) - targets[i][j]) * Math.cos(angle);
          ga += pull * x;
          gb += pull;
        });
        by[0].push(ga / xs.length);
        by[1].push(gb / xs.length);
      });
      return by;
    },
  };
}

// One weight's step by torch's optimizers: (update, memory, step number from 1) -> change.
const STEPPERS = {
  SGD: (rate) => (update) => -rate * update,
  momentum: (rate) => (update, memory) => {
    memory.m = memory.m === undefined ? update : 0.9 * memory.m + update;
    return -rate * memory.m;
  },
  Adam: (rate) => (update, memory, t) => {
    memory.m = 0.9 * (memory.m ?? 0) + 0.1 * update;
    memory.v = 0.999 * (memory.v ?? 0) + 0.001 * update * update;
    const size = Math.sqrt(memory.v) / Math.sqrt(1 - 0.999 ** t) + 1e-8;
    return (-rate / (1 - 0.9 ** t)) * (memory.m / size);
  },
};

// Descend from (a, b): {places: [[a, b], ...] before each step and after the last, updates}.
// It ends early where it leaves all finite numbers.
export function descend(land, start, rule, { learning_rate, steps, optimizer }, keep = true) {
  const move = STEPPERS[optimizer](learning_rate);
  const memory = [{}, {}];
  const reduce = RULES[rule];
  let [a, b] = start;
  const [places, updates] = [[[a, b]], []];
  for (let t = 1; t <= steps; t++) {
    const by = land.gradients(a, b);
    const update = [reduce(by[0]), reduce(by[1])];
    const next = [a + move(update[0], memory[0], t), b + move(update[1], memory[1], t)];
    if (!Number.isFinite(next[0] + next[1])) break;
    const stands = next[0] === a && next[1] === b && optimizer === "SGD";
    [a, b] = next;
    if (keep) {
      places.push(next);
      updates.push(update);
    } else if (stands) break;
  }
  return keep ? { places, updates } : [a, b];
}

// The number of the zero point at (a, b), -1 where there is none.
export function whichZero(land, zeros, [a, b]) {
  const losses = land.losses(a, b);
  const pooled = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  if (!(pooled < LOSS_AT_ZERO)) return -1;
  const away = zeros.map((zero) => Math.hypot(zero.a - a, zero.b - b));
  return away.indexOf(Math.min(...away));
}

// Votes on every weight, from codes: one byte a gradient, its sign and its size in half octaves.

const ZERO = 90; // of course.panels.recording

export const [CONTESTED, UP, DOWN, DEAD] = [0, 1, 2, 3];
export const sizeOf = (code) => (code === 0 ? 0 : Math.sign(code) * 2 ** ((Math.abs(code) - ZERO) / 2));

// All codes of a recording, {rule: step -> voter -> Int8Array}, from packed bytes.
export async function unpack(bytes, rules, steps, voters, weights) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const all = new Int8Array(await new Response(stream).arrayBuffer());
  const frame = voters * weights;
  const one = (steps + 1) * frame;
  rules.forEach((_, r) => {
    for (let i = r * one + frame; i < (r + 1) * one; i++) all[i] += all[i - frame];
  });
  return Object.fromEntries(
    rules.map((rule, r) => [
      rule,
      (step, voter) => {
        const begin = r * one + step * frame + voter * weights;
        return all.subarray(begin, begin + weights);
      },
    ]),
  );
}

// The state of each weight and the least size (its code) among the voters that are heard; and for
// each voter the weights that it alone keeps from agreement.
export function count(codesOf, step, heard, weights) {
  const rows = heard.map((voter) => codesOf(step, voter));
  const states = new Uint8Array(weights);
  const least = new Uint8Array(weights);
  const alone = heard.map(() => 0);
  const blocker = new Int8Array(weights).fill(-1);
  let [agreed, dead] = [0, 0];
  for (let w = 0; w < weights; w++) {
    let [up, down, low] = [0, 0, 127];
    for (const row of rows) {
      const code = row[w];
      if (code < 0) up += 1;
      else if (code > 0) down += 1;
      const level = code < 0 ? -code : code;
      if (level < low) low = level;
    }
    least[w] = low;
    if (!up && !down) {
      states[w] = DEAD;
      dead += 1;
    } else if (up === rows.length || down === rows.length) {
      states[w] = up ? UP : DOWN;
      agreed += 1;
    } else if (rows.length > 1 && Math.max(up, down) === rows.length - 1) {
      const wanted = up > down ? -1 : 1;
      // With two voters that quarrel, each alone is in the other's way.
      rows.forEach((row, i) => {
        const othersAgree = rows.length > 2 ? Math.sign(row[w]) !== wanted : row[w] === 0 || (up && down);
        if (!othersAgree) return;
        alone[i] += 1;
        blocker[w] = blocker[w] < 0 ? heard[i] : -2; // -2: either of two
      });
    }
  }
  return {
    states,
    least,
    agreed: agreed / weights,
    dead: dead / weights,
    blocker,
    alone: alone.map((n) => n / weights),
  };
}

// The share of weights that all heard voters agree on, at each step.
export function ratios(codesOf, steps, heard, weights) {
  const shares = [];
  for (let step = 0; step <= steps; step++) {
    const rows = heard.map((voter) => codesOf(step, voter));
    let agreed = 0;
    for (let w = 0; w < weights; w++) {
      const sign = Math.sign(rows[0][w]);
      let same = sign !== 0;
      for (let i = 1; same && i < rows.length; i++) same = Math.sign(rows[i][w]) === sign;
      if (same) agreed += 1;
    }
    shares.push(agreed / weights);
  }
  return shares;
}

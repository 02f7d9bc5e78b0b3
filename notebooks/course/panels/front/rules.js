// The rules of consensus_lib on the gradients of one weight, an array of one number a voter.

// Loops, since these run millions of times for a map of all starts.
function sum(g) {
  let total = 0;
  for (const x of g) total += x;
  return total;
}

function votes(g) {
  let total = 0;
  for (const x of g) total += Math.sign(x);
  return total;
}

function least(g) {
  let size = Number.POSITIVE_INFINITY;
  for (const x of g) size = Math.min(size, Math.abs(x));
  return size;
}

const agrees = (g, threshold) => Math.abs(votes(g)) >= Math.ceil(threshold * g.length - 1e-9);

export const mean = (g) => sum(g) / g.length;

export function veto(g) {
  let [low, high] = [g[0], g[0]];
  for (const x of g) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  return Math.max(low, 0) + Math.min(high, 0);
}

export function abstain(g) {
  const voting = g.filter((x) => x !== 0);
  return voting.length ? veto(voting) : 0;
}

export const andMask =
  (threshold = 1) =>
  (g) =>
    agrees(g, threshold) ? mean(g) : 0;

export const weighted = (g) => (Math.abs(votes(g)) * sum(g)) / (g.length * g.length);

export const signVote = (g) => Math.sign(votes(g));

export const smallest = (g) => Math.sign(sum(g)) * least(g);

// `p` may be "-inf", as JSON has it.
export const powerMean =
  (p, threshold = 1) =>
  (g) => {
    if (!agrees(g, threshold)) return 0;
    if (p === "-inf") return Math.sign(votes(g)) * least(g);
    if (p <= 0 && least(g) === 0) return 0;
    const spoken = g.filter((x) => x !== 0).map((x) => Math.log(Math.abs(x)));
    if (!spoken.length) return 0;
    if (p === 0) return Math.sign(votes(g)) * Math.exp(sum(spoken) / g.length);
    const top = Math.max(...spoken.map((x) => p * x));
    const logSum = top + Math.log(sum(spoken.map((x) => Math.exp(p * x - top))));
    return Math.sign(votes(g)) * Math.exp((logSum - Math.log(g.length)) / p);
  };

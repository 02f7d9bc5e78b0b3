"""The oracle: loops of ordinary backward passes and the rules written out from their definitions.

It shares no code with the library; one weight at a time, in plain Python floats.
"""

import math

import torch


def gradients_by_loop(model, losses):
    """{name: (B, *shape)}: one ordinary backward pass an example on the graph of `losses`."""
    rows = {name: [] for name, p in model.named_parameters() if p.requires_grad}
    for i in range(len(losses)):
        for p in model.parameters():
            p.grad = None
        losses[i].backward(retain_graph=True)
        for name, p in model.named_parameters():
            if p.requires_grad:
                rows[name].append(
                    torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone()
                )
    for p in model.parameters():
        p.grad = None
    return {name: torch.stack(gradients) for name, gradients in rows.items()}


def voter_means(gradients, voters):
    """Average (B, ...) over the examples of each voter, voters in ascending order."""
    ids = sorted(set(voters))
    return {
        name: torch.stack([g[[i for i, v in enumerate(voters) if v == who]].mean(0) for who in ids])
        for name, g in gradients.items()
    }


def each_weight(function, stack):
    """Apply function(list of N floats) -> float to every weight of a stack (N, ...)."""
    columns = stack.reshape(len(stack), -1).T.tolist()
    values = [function(column) for column in columns]
    return torch.tensor(values, dtype=torch.float64).reshape(stack.shape[1:])


def sign(x):
    return (x > 0) - (x < 0)


def mean(g):
    return math.fsum(g) / len(g)


def agreement(g):
    return abs(sum(sign(x) for x in g)) / len(g)


def consensus_veto(g):
    if all(x > 0 for x in g) or all(x < 0 for x in g):
        return sign(g[0]) * min(abs(x) for x in g)
    return 0.0


def consensus_abstain(g):
    voters = [x for x in g if x != 0]
    return consensus_veto(voters) if voters else 0.0


def and_mask(threshold):
    return lambda g: mean(g) if agreement(g) >= threshold - 1e-12 else 0.0


def agreement_weighted(g):
    return mean(g) * agreement(g)


def sign_vote(g):
    return float(sign(sum(sign(x) for x in g)))


def smallest_magnitude(g):
    return sign(mean(g)) * min(abs(x) for x in g)


def power_mean(p, threshold):
    def reduce(g):
        if agreement(g) < threshold - 1e-12:
            return 0.0
        sizes = [abs(x) for x in g]
        if p == -math.inf:
            size = min(sizes)
        elif p <= 0 and min(sizes) == 0:
            size = 0.0
        elif p == 0:
            size = math.exp(mean([math.log(x) for x in sizes]))
        else:
            size = mean([x**p for x in sizes]) ** (1 / p) if any(sizes) else 0.0
        return sign(sum(sign(x) for x in g)) * size

    return reduce

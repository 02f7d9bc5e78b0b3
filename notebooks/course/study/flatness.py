"""How flat is the loss around the weights that a rule ends with? Random steps away from them."""

from __future__ import annotations

from dataclasses import replace

import torch

from course.study.networks import Networks
from course.study.plan import LEVEL, Budget
from course.study.trials import Row, Trainer, Trial

__all__ = ["run_flatness"]

RADII = (0.01, 0.03, 0.1)  # of a step away, as a share of the norm of each layer's weights
DIRECTIONS = 20


def run_flatness(trial: Trial) -> list[Row]:
    """Train all seeds to the same training loss and see how far it rises around their weights.

    A random direction has, in each layer, a share of the norm of that layer's weights: a network
    whose weights are twice as large, with the same decisions, is not thereby flatter (the
    reason for filter normalization; Li et al. 2018, arXiv 1712.09913). All networks are moved
    in the same directions.

    Returns:
        One row for each seed and radius: the mean rise of the training loss over 20 directions,
        nats a cell. A seed that did not reach the training loss of 0.1 has one row, without.
    """
    levels = Budget(trial.budget.steps, (trial.budget.steps,), (LEVEL,), fitted=LEVEL)
    trainer = Trainer(replace(trial, budget=levels))
    trainer.train()
    rows: list[Row] = [
        {"seed": seed, "train_loss": run.best_loss, "ended": run.ended}
        for seed, run in zip(trial.seeds, trainer.runs, strict=True)
        if run.ended != "fitted"
    ]
    reached = [i for i, run in enumerate(trainer.runs) if run.ended == "fitted"]
    if not reached:
        return rows
    weights = trainer.best[reached]
    moved = weights.clone()
    networks = Networks(trainer.architecture, moved, trainer.cells)
    before = networks.losses(networks.log_probabilities()).mean(dim=1)
    source = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, weights.shape[1], generator=source)
    for radius in RADII:
        rises = torch.zeros(len(reached))
        for direction in directions:
            step = direction.expand_as(weights).clone()
            for layer in trainer.architecture.layers:
                own = slice(layer.start, layer.end)
                scale = weights[:, own].norm(dim=1) / step[:, own].norm(dim=1)
                step[:, own] *= radius * scale[:, None]
            moved.copy_(weights + step)
            rises += networks.losses(networks.log_probabilities()).mean(dim=1) - before
        for i, loss, rise in zip(
            reached, before.tolist(), (rises / DIRECTIONS).tolist(), strict=True
        ):
            row = {"seed": trial.seeds[i], "train_loss": loss, "ended": "fitted"}
            rows.append(row | {"radius": radius, "rise": rise})
    return rows

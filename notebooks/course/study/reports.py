"""The two studies in words and tables, from the stored rows, complete or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from course.study import arc_folds, small_worlds
from course.study.verdicts import (
    ARC,
    WORLDS,
    Difference,
    Kind,
    Needed,
    compare,
    contenders,
    difference,
    pairs_needed,
    verdict,
)

__all__ = ["at_end", "by_pairs", "cell", "mechanism", "needed", "primaries", "report", "reported"]

Rows = Callable[[str], pd.DataFrame]
"""From the name of a part to its stored rows."""

EXPRESSIBLE = 0.03  # the training loss on all pairs together from which a task counts as such


def reported(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of reported worlds or tasks, without those for tuning."""
    if "world" in rows:
        return rows[~rows["world"].isin(small_worlds.TUNING_WORLDS)]
    return rows[~rows["task"].isin(arc_folds.tuning_tasks())]


def cell(rows: pd.DataFrame, **wanted: float) -> pd.DataFrame:
    """The reported rows of worlds of one cell, such as pairs=4, cued=3."""
    rows = reported(rows)
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows


def whole_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows on ARC of those seeds of which every fold of every task is stored."""
    folds = sum(len(arc_folds.folds(task)) for task in arc_folds.study_tasks())
    runs = rows.drop_duplicates(["task", "fold", "seed"]).groupby("seed").size()
    return rows[rows["seed"].isin(runs.index[runs == folds])]


def primaries(rows: Rows, study: str) -> tuple[Difference, Difference]:
    """The primary and the co-primary of "worlds" or "arc".

    On ARC over the seeds that are complete; before the first is, over the folds there are.
    """
    own, kind, moment = reported(rows(study)), WORLDS, "end"
    if study == "arc":
        whole = whole_seeds(own)
        own, kind, moment = whole if len(whole) else own, ARC, arc_folds.LEVEL
    return (
        difference(own, "consensus", "mean", moment, kind),
        difference(own, "consensus", "mean", "common", kind),
    )


def at_end(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of worlds after the last step, with their accuracy and contender."""
    last = rows[(rows["at"] == "step") & (rows["value"] == WORLDS.steps)]
    return last.assign(accuracy=small_worlds.accuracy(last), contender=contenders(last))


def needed(rows: Rows) -> list[Needed]:
    """How many training pairs the best mean needs, for each n that consensus was given."""
    both = pd.concat([reported(rows("worlds")), reported(rows("worlds-pairs"))])
    table = at_end(both).pivot_table(
        index="world", columns=["rule", "pairs"], values="accuracy", aggfunc="last"
    )
    table = table.dropna()  # the worlds that every cell has
    if table.empty or table.columns.get_level_values("pairs").nunique() < 2:
        return []
    return [pairs_needed(table["mean"], table["consensus"][n]) for n in table["consensus"].columns]


def by_pairs(rows: Rows) -> pd.DataFrame:
    """Mean accuracy for each number of pairs that a rule is given, trained to the end or stopped.

    Stopped early, a run trains on all pairs but one, and ends where its loss on that is lowest.
    """
    both = pd.concat([reported(rows("worlds")), reported(rows("worlds-pairs"))])
    both = both[both["held"] == 0].reset_index(drop=True)
    both["accuracy"] = small_worlds.accuracy(both)
    watched = both.groupby(["rule", "pairs", "world"])["watched_loss"].idxmin()
    early = both.loc[watched].assign(way="stopped", pairs=lambda own: own["pairs"] + 1)
    every = pd.concat([at_end(both).assign(way="end"), early])
    return every.pivot_table(index="pairs", columns=["rule", "way"], values="accuracy")


def mechanism(rows: pd.DataFrame, moments: tuple[float, ...] = (0.05, 0.02)) -> pd.DataFrame:
    """Where the update goes, by contender, at training losses and at the end: means over worlds."""
    looks = rows[(rows["at"] == "loss") & rows["value"].isin(moments)]
    looks = pd.concat([looks, rows[(rows["at"] == "step") & (rows["value"] == WORLDS.steps)]])
    when = looks["value"].where(looks["at"] == "loss", "end")
    measures = ["served_update", "accident_update", "accident_weight"]
    return looks.groupby([when.rename("moment"), contenders(looks).rename("contender")])[
        measures
    ].mean()


def look_back(rows: Rows) -> str:
    """On ARC: is the difference larger on tasks that the network can express?"""
    together = rows("arc-together")
    reached = together[together["train_loss"] <= EXPRESSIBLE]["task"].unique()
    asked = together["task"].unique()
    of_tasks = primaries(rows, "arc")[0].by_unit
    able, other = (
        of_tasks[of_tasks.index.isin(own)] for own in (reached, set(asked) - set(reached))
    )
    if min(len(able), len(other)) < 2:
        return f"{len(reached)} of {len(asked)} tasks are expressible; too few differences"
    half = 1.96 * (able.var() / len(able) + other.var() / len(other)) ** 0.5
    gap = able.mean() - other.mean()
    return (
        f"{len(reached)} of {len(asked)} tasks are expressible; consensus minus mean "
        f"{able.mean():+.3f} on {len(able)} of them, {other.mean():+.3f} on {len(other)} others: "
        f"{gap:+.3f} [{gap - half:+.3f}, {gap + half:+.3f}]"
    )


def report(rows: Rows) -> Iterator[str]:
    """The lines of the report."""
    for study, title in (("worlds", "A world of small rules"), ("arc", "ARC, decided")):
        if not len(reported(rows(study))):
            continue
        yield f"== {title} =="
        for found in primaries(rows, study):
            word = verdict(*found.interval)
            yield f"{found}; half-width {found.half_width:.3f}: {word}"
        yield ""
        yield from _worlds(rows) if study == "worlds" else _arc(rows)


def _worlds(rows: Rows) -> Iterator[str]:
    base = reported(rows("worlds"))
    moments = ("end", "common", 0.05, 0.02, 0.01)
    yield _table("all", base, moments, WORLDS)
    for family, own in base.groupby("family"):
        yield _table(f"family {family}", own, ("end", "common"), WORLDS)
    yield f"settings:\n{_settings(base)}\n"
    yield f"where updates go:\n{mechanism(base).round(3)}\n"
    mean = base[base["rule"] == "mean"]
    for part in small_worlds.PARTS[1:]:
        own = reported(rows(part.name))
        names = [n for n in (*small_worlds.Cell.__dataclass_fields__, "optimizer") if len(own)]
        varied = [name for name in names if own[name].nunique() > 1 or part.name[7:] == name]
        groups = own.groupby(varied) if varied else [((), own)] if len(own) else []
        for values, group in groups:
            title = f"{part.name} " + ", ".join(map("{} {}".format, varied, values))
            if part.name == "worlds-controls":
                group = group.assign(rule=group["rule"].replace("mean", "slow mean"))
            if "mean" not in set(group["rule"]):
                group = pd.concat([mean[mean["world"].isin(group["world"])], group])
            yield _table(title, group, ("end", "common"), WORLDS)
    yield f"accuracy by the pairs given:\n{by_pairs(rows).round(3)}\n"
    yield from map(str, needed(rows))
    yield ""


def _arc(rows: Rows) -> Iterator[str]:
    moments = (arc_folds.LEVEL, "common", 0.03, "end")
    base = reported(rows("arc"))
    yield _table("all", base, moments, ARC)
    yield f"settings:\n{_settings(base)}\n"
    if len(rows("arc-together")):
        yield look_back(rows)
    for part in ("arc-held", "arc-controls", "arc-end", "arc-coupled", "arc-depth"):
        own = reported(rows(part))
        if not len(own):
            continue
        if part == "arc-controls":
            own = own.assign(rule=own["rule"].replace("mean", "slow mean"))
        if "mean" not in set(own["rule"]):
            same = ["task", "fold", "seed"]
            mean = base[base["rule"] == "mean"].merge(own[same].drop_duplicates(), on=same)
            own = pd.concat([mean, own])
        yield _table(part, own, moments, ARC)


def _table(title: str, rows: pd.DataFrame, moments: tuple, kind: Kind) -> str:
    return f"{title}\n{compare(rows, moments, kind).round(3).to_string(index=False)}\n"


def _settings(rows: pd.DataFrame) -> str:
    names = ["rule", "held", "optimizer", "learning_rate", "weight_decay"]
    return rows[names].drop_duplicates().to_string(index=False)

"""ARC in the course: tasks, their tensors, a small network, and scores."""

from course.arc.augmentation import Augmentation, augment_pairs
from course.arc.encoding import (
    Group,
    cell_loss,
    encode_grid,
    encode_pairs,
    unseen_colours,
)
from course.arc.fitting import ArcHistory, Examination, fit
from course.arc.generators import GENERATED_TASKS, generate_pairs
from course.arc.network import TinyConv
from course.arc.runs import fit_all
from course.arc.scoring import Score, copy_baseline, score
from course.arc.tasks import Pair, Task, as_grid, load_task, task_ids, teaching_task_ids

__all__ = [
    "GENERATED_TASKS",
    "ArcHistory",
    "Augmentation",
    "Examination",
    "Group",
    "Pair",
    "Score",
    "Task",
    "TinyConv",
    "as_grid",
    "augment_pairs",
    "cell_loss",
    "copy_baseline",
    "encode_grid",
    "encode_pairs",
    "fit",
    "fit_all",
    "generate_pairs",
    "load_task",
    "score",
    "task_ids",
    "teaching_task_ids",
    "unseen_colours",
]

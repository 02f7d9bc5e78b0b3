"""The models of the benchmark, by the name that the command knows them by."""

from tests.benchmarks.problems.cliffs import CLIFFS
from tests.benchmarks.problems.convolutions import CONVOLUTIONS
from tests.benchmarks.problems.families import FAMILIES
from tests.benchmarks.problems.mlp import MLP
from tests.benchmarks.problems.tinyconv import TINYCONV
from tests.benchmarks.problems.transformer import ENCODER, TRANSFORMER
from tests.benchmarks.problems.workload import Problem, Workload

__all__ = ["PROBLEMS", "Problem", "Workload"]

PROBLEMS = {
    "mlp": MLP,
    "convolutions": CONVOLUTIONS,
    "transformer": TRANSFORMER,
    "encoder": ENCODER,
    "tinyconv": TINYCONV,
    **FAMILIES,
    **CLIFFS,
}

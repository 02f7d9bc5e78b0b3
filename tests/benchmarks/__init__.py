"""The benchmark of a consensus step against an ordinary step: python -m tests.benchmarks."""

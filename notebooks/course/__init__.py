"""The lessons' own code: problems, the study, figures, panels and the checks of exercises."""

from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
"""The folder of what is stored: tasks, measurements, and the runs of the studies."""

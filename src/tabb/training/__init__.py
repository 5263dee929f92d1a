"""Training: the compiled loop, run folders, checkpoints, progress."""

from tabb.training.config import Settings
from tabb.training.record import Run
from tabb.training.run import train

__all__ = ["Run", "Settings", "train"]

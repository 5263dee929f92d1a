"""Training: the compiled loop, run folders, checkpoints, progress."""

from tabb.training.config import Settings
from tabb.training.run import Run, train

__all__ = ["Run", "Settings", "train"]

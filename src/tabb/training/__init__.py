"""Training: the compiled loop, run folders, checkpoints, progress."""

from tabb.training.config import Settings
from tabb.training.run import train
from tabb.training.trainer import Run

__all__ = ["Run", "Settings", "train"]

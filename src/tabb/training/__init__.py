"""Training: the compiled loop, run folders, checkpoints, progress."""

from tabb.training.config import Settings
from tabb.training.online import Online
from tabb.training.record import Run
from tabb.training.run import train

__all__ = ["Online", "Run", "Settings", "train"]

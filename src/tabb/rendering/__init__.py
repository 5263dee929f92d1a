"""Pictures and films of policies and robots, without a display. MuJoCo is imported with the first picture."""

from tabb.rendering.watch import Film, watch

__all__ = ["Film", "watch"]

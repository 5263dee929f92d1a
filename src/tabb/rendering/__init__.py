"""Pictures and films of policies and robots, without a display. MuJoCo is imported when the first picture is made."""

from tabb.rendering.watch import Film, watch

__all__ = ["Film", "watch"]

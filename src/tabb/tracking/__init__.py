"""Tracking: sends the metrics of a run to TensorBoard files, trackio or wandb. It is off by default."""

from tabb.tracking.sink import SINKS, Opener, Sink, TrackedRun, opener, scalars
from tabb.tracking.tracker import Tracker, TrackingWarning

__all__ = ["SINKS", "Opener", "Sink", "TrackedRun", "Tracker", "TrackingWarning", "opener", "scalars"]

"""Tracking: the lines of a run's metrics, sent on to TensorBoard files, trackio or wandb. Off unless asked for."""

from tabb.tracking.sink import SINKS, Opener, Sink, TrackedRun, opener, scalars
from tabb.tracking.tracker import Tracker, TrackingWarning

__all__ = ["SINKS", "Opener", "Sink", "TrackedRun", "Tracker", "TrackingWarning", "opener", "scalars"]

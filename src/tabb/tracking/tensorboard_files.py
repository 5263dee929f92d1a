"""TensorBoard event files beside the metrics of a run, written by tensorboardX."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from tabb.tracking.sink import TrackedRun, scalars

WITHOUT_FOLDER = Path("runs") / "tensorboard"
"""folder of the event files of runs without a run folder"""


class TensorBoard:
    """An event file in the run folder, or in a new folder below `folder`; steps are updates.

    A resumed run sends its earlier lines again, so the file first removes all steps of earlier event files in the
    folder (`purge_step` 0). TensorBoard stores scalars as float32.
    """

    def __init__(self, run: TrackedRun, folder: str | Path | None = None) -> None:
        now = time.time_ns()
        if folder is None and run.folder is not None:
            place = run.folder
        else:
            own = "-".join([re.sub(r"[^\w.@-]+", "-", run.name), str(now)])
            place = (WITHOUT_FOLDER if folder is None else Path(folder)) / own
        place.mkdir(parents=True, exist_ok=True)
        # Nanoseconds distinguish and order two files of the same second; TensorBoard reads files in the order of names.
        seconds, rest = divmod(now, 10**9)
        self.path = place / f"events.out.tfevents.{seconds:010d}.{rest:09d}.{socket.gethostname()}"
        # Not tensorboardX's own writer: a full disk ends its thread, and then it waits for the thread forever.
        self._file = RecordWriter(str(self.path))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)))

    def log(self, line: Mapping[str, Any]) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(line).items()]
        self._write(Event(wall_time=time.time(), step=line["update"], summary=Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._file.write(event.SerializeToString())
        self._file.flush()

"""A run folder: config, metrics as JSON lines, checkpoint, policy, learning curve.

config.json      rule, settings, data, seed, versions and machine
metrics.jsonl    one line per stretch of updates and per evaluation
prepared.npz     what the rule fitted before training
    imitated.npz     the target rows and copies of them that the policy imitates, where it imitates copies
    path-model.npz   the model in which the policy is held to logged paths, where it is
checkpoint.npz   state of the learner; where a stopped run goes on
policy.npz       the policy after the last update, raw observation in
policies/        those along the run, where target episodes were held out to choose among them
result.json      final score, all evaluations, seconds of each part
curve.png        learning curve
    target-steps.npz     the steps that the run took in the target, as a data set; source-steps.npz likewise
    target-steps.hdf5    the same while it takes them, in an environment of the user's
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

try:
    import fcntl
except ImportError:  # not on Windows: there nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]

from tabb.errors import RunError
from tabb.files import LOCK_HELD, finite, quoted, read_json, sync, warn_once, write_json
from tabb.own_files import RUN_FILES, refuse_run_files
from tabb.policy import Policy
from tabb.training.checkpoint import load_header, load_tree, save_tree


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: Any
    update: int
    seconds: dict[str, float]
    steps: Any = None
    """what the steps in environments go on from, where some are taken"""


class RunFolder:
    """The files of one run. Every write is atomic; the metrics file alone grows in place."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.prepared_file = self.path / "prepared.npz"
        self.imitated_file = self.path / "imitated.npz"
        self.path_model_file = self.path / "path-model.npz"
        self.checkpoint_file = self.path / "checkpoint.npz"
        self.policy_file = self.path / "policy.npz"
        self.result_file = self.path / "result.json"
        self.curve_file = self.path / "curve.png"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: the run is through, and a policy that was lost cannot be had back."""
        return self.result_file.exists() and (self.policy_file.exists() or not self.checkpoint_file.exists())

    def check_not_lost(self) -> None:
        """Raise `RunError` for a finished run whose checkpoint is gone: going on would mean training it anew."""
        if self.result_file.exists() and not self.checkpoint_file.exists():
            raise RunError(
                f"{self.path}: is finished, and its {self.checkpoint_file.name} is gone; put that back, or train the "
                "run again in another folder"
            )

    def check_new(self) -> None:
        """Raise `RunError` if the folder already holds a run, or files that a run would replace."""
        if self.config_file.exists():
            raise RunError(
                f"{self.path}: already holds a run; go on with `tabb train --resume {quoted(self.path)}` (in Python: "
                "resume=True), or choose another folder"
            )
        refuse_run_files(self.path)

    def make(self) -> None:
        """Make the folder of a new run, without anything in it. Raises `RunError` if it already holds one."""
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be made ({error.strerror}); choose another folder") from None

    def start(self, config: dict[str, Any]) -> None:
        """Begin a new run in the folder. Raises `RunError` if it already holds one."""
        self.make()
        write_json(self.config_file, config)

    def remove_parts(self) -> None:
        """Remove the half-written files that a killed process left. Only for who holds the lock."""
        for pattern in (*(f".{name}.*.part" for name in ("config.json", *RUN_FILES)), "policies/.*.npz.*.part"):
            for part in self.path.glob(pattern):
                part.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While the block runs, nobody else trains in this folder. The lock is released however the process ends.

        A disk without locks (many network disks) gets one `MachineWarning`: nothing then keeps two processes apart.

        Raises `RunError` if another process holds it, or if the folder may not be written.
        """
        if fcntl is None:
            yield
            return
        try:
            handle = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot be written ({error.strerror}); mend that, or copy the run to another folder"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in LOCK_HELD:
                    raise RunError(f"{self.path}: another process trains here; wait for it or stop it first") from None
                warn_once(
                    f"{self.path}: this disk has no locks ({error.strerror}); make sure that no other process trains "
                    "in this folder"
                )
            yield
        finally:
            os.close(handle)

    def config(self) -> dict[str, Any]:
        """The configuration that `start` wrote. Raises `RunError` if there is none."""
        if not self.config_file.exists():
            raise RunError(f"{self.path}: is not a run folder (no config.json); check the path")
        return read_json(self.config_file)

    def note_files(self, origin: dict[str, Any]) -> None:
        """Keep where the run's data lie now, if they have moved; their contents are known to be the same."""
        config = self.config()
        before = config.get("origin") or {}
        moved = {
            domain: before[domain] | {"files": files}
            for domain in ("source", "target")
            if (files := files_of(origin, domain)) is not None and isinstance(before.get(domain), dict)
        }
        if any(before[domain] != there for domain, there in moved.items()):
            write_json(self.config_file, config | {"origin": before | moved})

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the metrics; null where a number is not finite."""
        try:
            with open(self.metrics_file, "a", encoding="utf-8") as file:
                file.write(json.dumps(finite(line)) + "\n")
        except OSError as error:
            raise RunError(
                f"{self.metrics_file}: cannot be written ({error.strerror}); free space and go on with "
                f"`tabb train --resume {quoted(self.path)}`"
            ) from None

    def metrics(self) -> list[dict[str, Any]]:
        """All metrics lines; a last line that a kill cut short is left out."""
        return _lines(self.metrics_file.read_bytes()) if self.metrics_file.exists() else []

    def save(self, state: Any, update: int, seconds: dict[str, float], steps: Any = None) -> None:
        """Write the checkpoint after `update` updates; with `steps`, what the steps in environments go on from."""
        size = self.metrics_file.stat().st_size if self.metrics_file.exists() else 0
        if size:
            # The checkpoint counts on these bytes: after a power cut they must be there as well.
            try:
                with open(self.metrics_file, "rb+") as file:  # Windows syncs only what may be written
                    sync(file.fileno(), self.metrics_file)
            except OSError as error:
                raise RunError(
                    f"{self.metrics_file}: cannot be kept ({error.strerror}); free space and go on with "
                    f"`tabb train --resume {quoted(self.path)}`"
                ) from None
        header = {"update": update, "seconds": seconds, "metrics_bytes": size}
        save_tree(self.checkpoint_file, state if steps is None else (state, steps), header)

    def saved_update(self) -> int:
        """How many updates the last checkpoint has behind it; 0 without one. Raises `RunError` for a damaged one."""
        return int(load_header(self.checkpoint_file)["update"]) if self.checkpoint_file.exists() else 0

    def restore(self, template: Any, steps: Any = None) -> Saved | None:
        """The last checkpoint, with the metrics cut back to it; None if the run was stopped before the first.

        `template` and `steps` have the shapes of what was saved.

        Raises `RunError` where the checkpoint or the metrics that it counts on are damaged.
        """
        if not self.checkpoint_file.exists():
            self.metrics_file.unlink(missing_ok=True)
            return None
        saved, header = load_tree(self.checkpoint_file, template if steps is None else (template, steps))
        state, steps = (saved, None) if steps is None else saved
        self._cut_metrics(int(header["metrics_bytes"]))
        return Saved(state, int(header["update"]), dict(header["seconds"]), steps)

    def _cut_metrics(self, size: int) -> None:
        """Cut the metrics back to what was there when the checkpoint was written.

        Raises `RunError` where some of that is gone: evaluations would be missing from the run's result.
        """
        kept = self.metrics_file.read_bytes()[:size] if self.metrics_file.exists() else b""
        if len(kept) < size or len(_lines(kept)) < len(kept.splitlines()):
            raise RunError(
                f"{self.metrics_file}: lacks lines from before the checkpoint, evaluations perhaps; copy the whole "
                "folder again from where it comes from, or train the run again in another folder"
            )
        if self.metrics_file.exists():
            os.truncate(self.metrics_file, size)

    def steps_file(self, domain: str) -> Path:
        """Where the steps that a run took in a domain are kept, as a data set."""
        return self.path / f"{domain}-steps.npz"

    def step_log(self, domain: str) -> Path:
        """Where they are kept as they are taken, in an environment that may be a robot, until the run is through."""
        return self.path / f"{domain}-steps.hdf5"

    def policy_at(self, update: int) -> Path:
        """Where the policy after `update` updates is kept."""
        return self.path / "policies" / f"{update}.npz"

    def keep_policy(self, policy: Policy, update: int) -> None:
        """Keep a policy along the run. Raises `RunError` where that fails."""
        file = self.policy_at(update)
        try:
            file.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{file.parent}: cannot be made ({error.strerror}); mend that and resume") from None
        policy.save(file)

    def save_prepared(self, models: Any) -> None:
        if jax.tree.leaves(models):
            save_tree(self.prepared_file, models, {})

    def restore_prepared(self, template: Any) -> Any | None:
        """What the rule fitted, if that was finished."""
        # A rule that fits nothing: an earlier version may have kept what it fitted and never used.
        if not jax.tree.leaves(template):
            return template
        return load_tree(self.prepared_file, template)[0] if self.prepared_file.exists() else None


def _lines(content: bytes) -> list[dict[str, Any]]:
    """The lines of a metrics file up to the first that is not whole."""
    lines = []
    for text in content.splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def runs_below(root: Path) -> list[Path]:
    """The folders of runs in or below `root`, in the order of their paths.

    Another program's `config.json`, which names no rule, is passed over; a damaged one may be a run's.
    """
    return [file.parent for file in sorted(root.rglob("config.json")) if not _of_another_program(file)]


def _of_another_program(file: Path) -> bool:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not (isinstance(config, Mapping) and isinstance(config.get("rule"), Mapping))


def files_of(origin: Mapping[str, Any], domain: str) -> list[str] | None:
    """The data files of a domain, from the `origin` of a config; None where it names none."""
    known = origin.get(domain)
    return known.get("files") if isinstance(known, dict) else None


def env_of_run(policy: Path) -> str | None:
    """The Gymnasium environment that a run was evaluated in; None if there was none, or `policy` is not of a run.

    `policy` is a run folder, or a file in it or in its `policies`.
    """
    for folder in (policy, policy.parent, policy.parent.parent):
        if (folder / "config.json").is_file():
            env = (RunFolder(folder).config().get("origin") or {}).get("env")
            return None if env is None else str(env)
    return None

"""What rules fit before training, kept on disk: another run with the same data and settings need not fit it again.

An entry's name is a hash of everything that its content depends on: the rule and those of its fields that `prepare`
reads, both data sets, the seed, the code that fits, and the versions and device that it ran on. So nothing goes stale
unnoticed; an entry that is damaged is made anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tabb.errors import RunError
from tabb.rules import Rule
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.config import plain

LARGEST = 2 * 2**30
"""bytes of all entries together; beyond that those unused for longest go"""


def cache_folder() -> Path | None:
    """$TABB_CACHE, else `tabb` in the user's cache folder; None if $TABB_CACHE is `off`."""
    named = os.environ.get("TABB_CACHE")
    if named == "off":
        return None
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tabb"


def entry_name(rule: Rule, data: dict[str, str], normalise: str, key: Any) -> str:
    """The name of the entry for what `rule.prepare` makes of these data (by fingerprint) with this random key."""
    settings = {name: value for name, value in plain(rule).items() if name not in rule.after_preparation}
    device = jax.devices()[0]
    depends = {
        "rule": settings,
        "data": data,
        "normalise": normalise,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "code": [_code(), _source(type(rule))],
        "class": f"{type(rule).__module__}.{type(rule).__qualname__}",
        "jax": jax.__version__,
        "device": f"{device.platform}: {device.device_kind}",
    }
    return f"{rule.name}-{hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:32]}.npz"


@functools.cache
def _code() -> str:
    """SHA-256 of the files that decide what is fitted: rules, networks, batches, the backup."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for file in sorted([*package.glob("rules/*.py"), *package.glob("*.py"), package / "backbones" / "backup.py"]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _source(rule: type[Rule]) -> str:
    """The rule's own file: it may be a user's."""
    try:
        return inspect.getsource(inspect.getmodule(rule) or rule)
    except (OSError, TypeError):
        return ""  # typed in at a prompt; its name and settings have to do


def cached(name: str, template: Callable[[], Any], make: Callable[[], Any], note: Callable[[str], None]) -> Any:
    """The entry `name`, read into the structure of `template()`; or what `make()` returns, which is kept as it.

    A cache that cannot be read or written never stops a run: `note` is told in one line.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    file = folder / name
    if file.exists():
        try:
            models, header = load_tree(file, template())
            if header.get("entry") != name:
                raise RunError(f"{file}: holds another entry")
            with contextlib.suppress(OSError):
                os.utime(file)  # in use: the last to go
            note(f"prepared before, taken from {file}")
            return models
        except RunError as error:
            note(f"{str(error).split(';')[0]}; it is made anew")
    models = make()
    if jax.tree.leaves(models):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_tree(file, models, {"entry": name})
            _prune(folder)
        except (RunError, OSError) as error:
            note(f"what was prepared is not kept for other runs: {str(error).split(';')[0]}")
    return models


def _prune(folder: Path) -> None:
    """Remove the entries unused for longest until all together are no larger than `LARGEST`."""
    entries = []
    for file in folder.glob("*.npz"):
        with contextlib.suppress(OSError):  # another process may prune too
            found = file.stat()
            entries.append((found.st_mtime, found.st_size, file))
    total = sum(size for _, size, _ in entries)
    for _, size, file in sorted(entries):
        if total <= LARGEST:
            return
        with contextlib.suppress(OSError):
            file.unlink()
        total -= size

"""What rules fit before training, kept on disk: another run with the same data and settings need not fit it again.

An entry's name is a hash of everything that its content depends on: the rule and those of its fields that `prepare`
reads, its source code, both data sets, the seed, and the versions, flags and device that it ran on. So nothing goes
stale unnoticed. A damaged entry is made anew. A rule whose source cannot be read (in a notebook) is not cached.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from tabb.batch import Domains
from tabb.errors import RunError
from tabb.files import cache_folder
from tabb.models.fitting import Report
from tabb.models.imitation import Imitation
from tabb.models.matching import model_config
from tabb.networks import Normaliser
from tabb.plain import plain
from tabb.provenance import EXTRAS, environment
from tabb.rules import Rule
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.source_code import code_of

LARGEST = 2 * 2**30
"""bytes of all entries together; beyond that those unused for longest go"""


def prepared(
    rule: Rule,
    domains: Domains,
    data: dict[str, Any],
    normalise: str,
    key: Any,
    report: Report,
    note: Callable[[str], None],
) -> Any:
    """What `rule.prepare` makes of the domains, taken from the cache where it holds it.

    `data` are the fingerprints of both data sets. `note` gets one line that says where something comes from.
    """

    def make() -> Any:
        return rule.prepare(domains, key, report)

    name = None if cache_folder() is None else entry_name(rule, data, normalise, key)
    return cached(name, lambda: rule.template(domains, key), make, note)


def entry_name(rule: Rule, data: dict[str, Any], normalise: str, key: Any) -> str | None:
    """The name of the entry for what `rule.prepare` makes of these data (by fingerprint) with this random key.

    None for a rule that cannot be told apart from others: its source cannot be read, or JSON cannot hold its fields.
    """
    settings = {name: value for name, value in plain(rule).items() if name not in rule.after_preparation}
    return _name(rule.name, {"rule": settings, "code": code_of(rule), "data": data, "normalise": normalise}, key)


def imitated_name(
    config: Imitation,
    data: dict[str, Any],
    with_source: bool,
    units: Normaliser,
    key: Any,
    aside: NDArray[np.bool_] | None = None,
) -> str | None:
    """The name of the entry for the copies that policies imitate; the same for every rule that draws the same data.

    `units` are those of the run's observations: runs that draw the same rows may have other ones. `aside` are the
    target rows that the rule sets aside (`Rule.set_aside`).
    """
    depends = {"imitation": plain(config), "code": code_of(config), "data": _drawn(data, with_source)}
    return _name("imitated", depends | _in(units) | _less(aside), key)


def path_model_name(
    config: Imitation,
    data: dict[str, Any],
    with_source: bool,
    units: Normaliser,
    key: Any,
    aside: NDArray[np.bool_] | None = None,
) -> str | None:
    """The name of the entry for the model in which policies are held to logged paths, as that of `imitated_name`."""
    with_source = with_source and config.model == "both"
    fitted = model_config(config)
    depends = {"model": plain(fitted), "code": code_of(fitted), "data": _drawn(data, with_source)}
    return _name("path-model", depends | _in(units) | _less(aside), key)


def _in(units: Normaliser) -> dict[str, Any]:
    """What an entry whose states are in these units depends on."""
    return {"units": [np.asarray(moment, np.float64).tolist() for moment in (units.mean, units.scale)]}


def _less(aside: NDArray[np.bool_] | None) -> dict[str, Any]:
    """What an entry depends on where some target rows are set aside."""
    return {} if aside is None or not aside.any() else {"aside": np.flatnonzero(aside).tolist()}


def _drawn(data: dict[str, Any], with_source: bool) -> dict[str, Any]:
    """The data that a run imitates: no extras, and without source rows in its batches nothing of the source."""
    without = {EXTRAS} if with_source else {EXTRAS, "source"}
    return {name: value for name, value in data.items() if name not in without}


def _name(kind: str, depends: dict[str, Any], key: Any) -> str | None:
    """A name from all that an entry depends on; None where its code cannot be read, or JSON cannot hold it."""
    if depends["code"] is None:
        return None
    depends |= {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "environment": environment(),
        "flags": os.environ.get("XLA_FLAGS", ""),
    }
    try:
        text = json.dumps(depends, sort_keys=True)
    except TypeError:
        return None
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def cached(name: str | None, template: Callable[[], Any], make: Callable[[], Any], note: Callable[[str], None]) -> Any:
    """The entry `name`, read into the structure of `template()`; or what `make()` returns, which is kept as it.

    A cache that cannot be read or written never stops a run: `note` gets one line. Without a name nothing is kept.
    """
    folder = cache_folder()
    if folder is None or name is None:
        return make()
    file = folder / name
    if _exists(file):
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


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a folder above it that may not be entered
        return False


def _prune(folder: Path) -> None:
    """Remove the entries unused for longest until all together are no larger than `LARGEST`."""
    entries = []
    for file in folder.glob("*.npz"):
        with contextlib.suppress(OSError):  # another process may prune too
            stat = file.stat()
            entries.append((stat.st_mtime, stat.st_size, file))
    total = sum(size for _, size, _ in entries)
    for _, size, file in sorted(entries):
        if total <= LARGEST:
            return
        with contextlib.suppress(OSError):
            file.unlink()
        total -= size

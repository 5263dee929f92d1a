"""Minari data sets, local ones or downloaded by Minari: episodes in, audited `Transitions` out.

Needs the extra `minari`. An episode of T steps has T + 1 observations, so every next observation is known, also those
of truncated steps; the rest is the one rule of `tabb.data.arrays.build`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data.arrays import build
from tabb.data.checks import fail, one_line
from tabb.data.reading import NOTHING_STATED, RawColumns, Reading
from tabb.data.report import Loaded
from tabb.errors import DataError, TabbError, UsageError

_ID = re.compile(r"(?:[-\w]+/)*[-\w]+-v\d+")
_MUJOCO = re.compile(r"mujoco\s*(==|>=|~=)\s*((\d+)\.(\d+).*)")
WITH_MARGINS = ("Hopper-", "Ant-")
"""how ids of robots begin whose contacts have a margin, which MuJoCo adds up since 3.5"""


def is_minari(path: Path) -> bool:
    """Whether the folder `path` holds a Minari data set."""
    return (path / "data" / "metadata.json").is_file()


def folder_of(name: str) -> Path:
    """The folder of the Minari data set `name` (`mujoco/hopper/medium-v0`); Minari downloads it if it is not there.

    Raises `UsageError` for a malformed name or without the extra, `DataError` if it cannot be had (one line each).
    """
    if not _ID.fullmatch(name):
        raise UsageError(one_line(f"minari:{name}: is no Minari id; write minari:NAMESPACE/NAME-vN"))
    _import()
    from minari.storage.datasets_root_dir import get_dataset_path

    folder = Path(get_dataset_path(name)).absolute()
    if is_minari(folder):
        return folder
    before = folder.exists()
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from minari import download_dataset

            download_dataset(name)
    except Exception as error:
        reason = one_line(str(error)) or type(error).__name__
        raise DataError(
            one_line(
                f"minari:{name}: is not in {folder.parent} (MINARI_DATASETS_PATH) and Minari cannot download it "
                f"({reason[:200]}); check its id and the network"
            )
        ) from None
    finally:
        if not before and not is_minari(folder):  # Minari takes a folder that exists for a whole data set
            shutil.rmtree(folder, ignore_errors=True)
    if not is_minari(folder):
        raise DataError(one_line(f"minari:{name}: {folder} holds no data set; remove it and try again"))
    return folder


def load_minari(folder: Path, reading: Reading = NOTHING_STATED) -> Loaded:
    """Transitions and report of the Minari data set in `folder` (which holds `data/metadata.json`).

    Observations and actions must be vectors (`Box` of one dimension). Raises `DataError` (one line) naming the data
    set and what in it cannot be used, `UsageError` without the extra.
    """
    _import()
    name = str(folder)
    try:
        metadata = json.loads((folder / "data" / "metadata.json").read_text())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _load(folder, metadata, f"minari:{metadata['dataset_id']}", reading)
    except TabbError:
        raise
    except Exception as error:  # Minari trusts its folders: damaged ones raise whatever they meet first
        reason = one_line(str(error)) or type(error).__name__
        raise DataError(one_line(f"{name}: cannot be read by Minari, damaged or cut ({reason[:200]})")) from None


def raw_columns(folder: Path, reading: Reading = NOTHING_STATED) -> RawColumns:
    """The columns of a data set as it stores them. Raises `DataError` where it cannot be read."""
    _import()
    metadata = json.loads((folder / "data" / "metadata.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _stored(folder, metadata, f"minari:{metadata['dataset_id']}")


def _load(folder: Path, metadata: dict[str, Any], name: str, reading: Reading) -> Loaded:
    stored = _stored(folder, metadata, name)
    doubts = _engine_doubts(stored.provenance)
    loaded = build(
        stored.columns, name=name, layout="minari", provenance=stored.provenance, owned=True, reading=reading
    )
    return loaded._replace(report=dataclasses.replace(loaded.report, doubts=(*doubts, *loaded.report.doubts)))


def _stored(folder: Path, metadata: dict[str, Any], name: str) -> RawColumns:
    for key in ("observation_space", "action_space"):
        if not isinstance(metadata.get(key), str):  # Minari would build the environment that the file names
            fail(name, key, "is not stated in metadata.json; write the data set with a newer Minari")
    _check_store(folder / "data" / "main_data.hdf5", name)
    from minari import MinariDataset

    data = MinariDataset(str(folder / "data"))
    spaces = {"observations": data.observation_space, "actions": data.action_space}
    for key, space in spaces.items():
        _check_space(space, name, key)
    columns = _columns(data, name, {key: space.shape[0] for key, space in spaces.items()})
    provenance = _provenance(metadata)
    bounds = {"action_low": data.action_space.low, "action_high": data.action_space.high}
    if np.isfinite([*bounds.values()]).all():
        provenance |= {key: bound.tolist() for key, bound in bounds.items()}
    return RawColumns(columns, provenance)


def _columns(data: Any, name: str, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of all episodes, one after the other; shapes are checked before they are joined."""
    keys = ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts", "episodes")
    parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    for episode in data.iterate_episodes():
        steps = len(episode.rewards)
        expected = {
            "observations": (steps + 1, sizes["observations"]),
            "actions": (steps, sizes["actions"]),
            "rewards": (steps,),
            "terminations": (steps,),
            "truncations": (steps,),
        }
        for key, shape in expected.items():
            given = np.shape(getattr(episode, key))
            if given != shape:
                fail(name, key, f"episode {episode.id} has shape {given}, not {shape} as its {steps} rewards ask for")
        parts["observations"].append(np.asarray(episode.observations[:-1]))
        parts["next_observations"].append(np.asarray(episode.observations[1:]))
        parts["actions"].append(np.asarray(episode.actions))
        parts["rewards"].append(np.asarray(episode.rewards))
        parts["terminals"].append(np.asarray(episode.terminations))
        parts["timeouts"].append(np.asarray(episode.truncations))
        parts["episodes"].append(np.full(steps, len(parts["episodes"])))
    if not sum(map(len, parts["rewards"])):
        fail(name, "episodes", "are none, or have no steps; give a data set with at least two steps")
    return {key: np.concatenate(arrays) for key, arrays in parts.items()}


def _check_space(space: Any, name: str, key: str) -> None:
    from gymnasium.spaces import Box

    if isinstance(space, Box) and len(space.shape) == 1:
        return
    kind = type(space).__name__
    description = f"{kind} with keys {', '.join(map(str, space))}" if kind == "Dict" else f"{kind}{space.shape or ''}"
    advice = "tabb needs vectors (Box of shape (n,)): flatten them, or use tabb.from_arrays"
    fail(name, key, f"are of space {description}; {advice}")


def _check_store(path: Path, name: str) -> None:
    """Refuse links to other files and sizes that the file cannot hold, before Minari reads them."""
    if not path.exists():
        return  # another format of Minari's, without such traps
    import h5py

    from tabb.data.hdf5 import check_dataset, direct

    with h5py.File(path, "r", locking=False) as file:
        for group in file:
            if not isinstance(direct(file, group, name), h5py.Group):
                fail(name, group, "is not a group of one episode; fetch or write the data set again")
            for key in ("observations", "actions", "rewards", "terminations", "truncations"):
                if key in file[group]:
                    item = direct(file[group], key, name)
                    if isinstance(item, h5py.Dataset):  # spaces of other kinds are named later, by their space
                        check_dataset(item, name, f"{group}/{key}", path.stat().st_size)
            if file[group].get("infos", getlink=True) is not None:
                _check_infos(file[group], name, path.stat().st_size)


def _check_infos(group: Any, name: str, size: int) -> None:
    """Minari reads these too, though tabb needs none of them."""
    import h5py

    from tabb.data.hdf5 import check_storage, direct

    waiting = [(group, "infos")]
    while waiting:
        parent, key = waiting.pop()
        item = direct(parent, key, name)
        if isinstance(item, h5py.Dataset):
            check_storage(item, name, item.name, size)
        elif isinstance(item, h5py.Group):
            waiting += [(item, child) for child in item]


def _provenance(metadata: dict[str, Any]) -> dict[str, Any]:
    """Where the data come from. Gymnasium's own v4 and v5 classes run a plain MuJoCo: the engine `native`.

    Where that is not all of it, `_engine_doubts` says so.
    """
    kept = ("dataset_id", "algorithm_name", "requirements", "minari_version", "code_permalink")
    provenance = {key: metadata[key] for key in kept if isinstance(metadata.get(key), str | list)}
    try:
        spec = json.loads(metadata.get("env_spec") or "null")
    except (TypeError, ValueError):
        spec = None
    if not isinstance(spec, dict):
        return provenance
    provenance["env_id"] = str(spec.get("id"))
    own = str(spec.get("entry_point")).startswith("gymnasium.envs.mujoco.")
    if own and provenance["env_id"].endswith(("-v4", "-v5")) and not (spec.get("kwargs") or {}).get("xml_file"):
        provenance["engine"] = "native"
    return provenance


def _engine_doubts(provenance: dict[str, Any]) -> Iterator[str]:
    """Doubts about data of the engine `native`, where its robot or its MuJoCo is another than tabb's."""
    env_id = provenance.get("env_id", "")
    if provenance.get("engine") != "native":
        return
    if env_id == "Walker2d-v5":
        yield (
            "Walker2d-v5 has a friction of 1.9 at both feet, the walker2d of tabb one of 0.9 and 1.9 in either engine: "
            "evaluate on `--env Walker2d-v5`, and take the other domain from it too"
        )
    made_by = next(
        (match for one in provenance.get("requirements", ()) if (match := _MUJOCO.fullmatch(str(one)))), None
    )
    if env_id.startswith(WITH_MARGINS) and (made_by is None or (int(made_by[3]), int(made_by[4])) < (3, 5)):
        what = "MuJoCo is not known to be 3.5 or later"
        if made_by is not None and made_by[1] == "==":
            what = f"steps were made by MuJoCo {made_by[2]}"
        yield (
            f"{what}, and before 3.5 contacts of {env_id} began nearer than in engine native: take both domains from "
            "one MuJoCo, and scores on this one as rough"
        )


def _import() -> None:
    try:
        import minari  # noqa: F401
    except ImportError:
        raise UsageError('Minari data sets need the extra `minari`: pip install "tabb-rl[minari]"') from None

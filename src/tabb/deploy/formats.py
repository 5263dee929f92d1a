"""Exports a policy to a format that other programs run: ONNX, StableHLO or plain NumPy arrays."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

from tabb.errors import DataWarning, RunError, UsageError
from tabb.files import path_of
from tabb.policy import Policy, why_no_policy

Writer = Callable[[Policy, Path], object]


def _write_onnx(policy: Policy, out: Path) -> None:
    from tabb.deploy.onnx_model import write_onnx

    write_onnx(policy, out)


def _write_stablehlo(policy: Policy, out: Path) -> None:
    from tabb.deploy.stablehlo import write_stablehlo

    write_stablehlo(policy, out)


FORMATS: dict[str, tuple[str, Writer, tuple[str, ...]]] = {
    "onnx": (".onnx", _write_onnx, ("onnx",)),
    "stablehlo": (".stablehlo", _write_stablehlo, ("flatbuffers",)),
    "npz": (".npz", Policy.save, ()),
}
"""By format: the suffix of its files, the function that writes one, and the packages of the extra `export` it needs."""


def export(policy: Policy | str | Path, format: str, out: str | Path | None = None) -> Path:
    """Write a policy for deployment: float32 raw observations [batch, S] in, actions [batch, A] out, inside the bounds.

    All formats give the actions of `Policy.act` up to float32 rounding. They cannot raise errors: in ONNX and StableHLO
    the action is NaN if the observation holds NaN or infinity, or overflows the networks. docs/export.md shows how to
    run each format.

    Args:
        policy: a policy, its file, or the folder of a finished run.
        format: "onnx", "stablehlo" or "npz". StableHLO has a second file of the same name with ".json" added, for the
            metadata that the other formats hold inside.
        out: the file to write; an older export is replaced once the new one is complete. The default is a file beside
            policy.npz; for "npz" that is policy.npz itself, and nothing is written.

    Returns:
        The file.

    Raises:
        UsageError: the format is unknown, `out` has the suffix of another format, a policy in memory has no `out`,
            `out` is a file that tabb did not write, or an extra is missing.
        RunError: there is no policy, the run is not finished, the file is damaged, or `out` cannot be written.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: use one of {', '.join(FORMATS)}")
    suffix, write, packages = FORMATS[format]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f'{format} files need the extra `export`: pip install "tabb-rl[export]"')
    source = None if isinstance(policy, Policy) else _file_of(path_of(policy, "policy"))
    if out is not None:
        out = path_of(out, "out")
    elif source is not None:
        out = source.with_suffix(suffix)
    else:
        raise UsageError("a policy in memory has no folder; name the file to write (out=...)")
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; name a file in it, such as {out / f'policy{suffix}'}")
    # Also keeps `--format onnx --out RUN/policy.npz` from replacing the trained policy.
    if out.suffix != suffix:
        raise UsageError(f"{out}: a file in format {format} must end in {suffix}")
    loaded = policy if isinstance(policy, Policy) else Policy.load(policy)
    if loaded.remembers and format != "npz":
        raise UsageError(
            f"{out}: this policy remembers its episode, and programs in {format} act by one observation; use npz, "
            "and act through tabb.Policy.load(...).actor()"
        )
    if loaded.coarse_columns.size and format != "npz":
        columns = ", ".join(map(str, loaded.coarse_columns[:5]))
        warnings.warn(
            f"{out}: float32 does not resolve column {columns} of the observation so far from 0, and {format} takes "
            "float32: subtract an origin from it in the data, train again, and subtract it before the policy acts",
            DataWarning,
            stacklevel=2,
        )
    if source is None or not out.exists() or not out.samefile(source):
        write(loaded, out)
    return out


def _file_of(path: Path) -> Path:
    """The policy file of `path`, a file or a run folder; `RunError` if the run has no policy yet."""
    if not path.is_dir():
        return path
    if not (path / "policy.npz").is_file() and (path / "config.json").is_file():
        raise RunError(f"{path}: {why_no_policy(path)}")
    return path / "policy.npz"

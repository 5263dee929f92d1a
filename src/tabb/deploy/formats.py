"""A policy in a format that other programs run: ONNX, StableHLO or plain NumPy arrays."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from tabb.errors import RunError, UsageError
from tabb.policy import Policy

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
"""Format: how its files' names end, what writes one, and the packages of the extra `export` that it needs."""


def export(policy: Policy | str | Path, format: str, out: str | Path | None = None) -> Path:
    """Write a policy for deployment: float32 raw observations [batch, S] in, actions [batch, A] in [-1, 1] out.

    All formats give what `Policy.act` gives, but for float32 rounding. They cannot raise: an observation that holds NaN
    or infinity has NaN as its action in ONNX and StableHLO. How to run each: docs/export.md.

    Args:
        policy: a policy, its file, or the folder of a finished run.
        format: "onnx", "stablehlo" or "npz". StableHLO has a second file beside it, named as the first with ".json"
            added, for what the other formats hold inside.
        out: the file to write; an older one is replaced once the new one is whole. Without it, a file beside
            policy.npz; as "npz" that is policy.npz itself, and nothing is written.

    Returns:
        The file.

    Raises:
        UsageError: an unknown format, a name of another format, a policy in memory without `out`, or a missing extra.
        RunError: no policy there, a run that is not finished, a damaged file, or `out` cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: use one of {', '.join(FORMATS)}")
    suffix, write, packages = FORMATS[format]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f'{format} files need the extra `export`: pip install "tabb-rl[export]"')
    source = None if isinstance(policy, Policy) else _file_of(Path(policy))
    if out is not None:
        out = Path(out)
    elif source is not None:
        out = source.with_suffix(suffix)
    else:
        raise UsageError("a policy in memory has no folder: say where to write it (out=...)")
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; name a file in it, as {out / f'policy{suffix}'}")
    # Also keeps `--format onnx --out RUN/policy.npz` from replacing the trained policy.
    if out.suffix != suffix:
        raise UsageError(f"{out}: the name of a file in format {format} ends in {suffix}")
    loaded = policy if isinstance(policy, Policy) else Policy.load(policy)
    if source is None or not out.exists() or not out.samefile(source):
        write(loaded, out)
    return out


def _file_of(path: Path) -> Path:
    """The policy file that `path` means; `RunError` where it is a run that has none yet."""
    if not path.is_dir():
        return path
    if not (path / "policy.npz").is_file() and (path / "config.json").is_file():
        raise RunError(f"{path}: is not finished; go on with `tabb train --resume {path}` first")
    return path / "policy.npz"

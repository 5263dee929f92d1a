"""`tabb export`: a policy in a format that other programs run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tabb.commands.options import parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Which policy, and as what."""

    run: Annotated[Path, tyro.conf.Positional]
    """a finished run folder (runs/.../seed0), or a policy.npz"""
    format: Literal["onnx", "stablehlo", "npz"]
    """ONNX, a program for JAX, or arrays that a few lines of NumPy run"""
    out: Path | None = None
    """file to write; beside policy.npz if not given"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb export", "Write a policy for programs that do not have tabb.")
    from tabb.deploy import export
    from tabb.policy import Policy

    out = export(options.run, options.format, options.out)
    policy = Policy.load(options.run)
    print(
        f"{options.format}: {out} ({out.stat().st_size / 1000:,.0f} kB; {policy.observation_size} observations in, "
        f"{policy.action_size} actions in {policy.action_bounds or '[-1, 1]'} out; how to run it: docs/export.md)"
    )
    return 0

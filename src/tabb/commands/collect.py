"""`tabb collect`: a data set from a policy, or those of a whole suite."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from tabb.behaviours.suite import SUITES
from tabb.commands.options import parse
from tabb.errors import UsageError
from tabb.own_files import refuse_others

RANDOM = "random"
ACTIONS = SUITES[:1]
"""Whose help stands in the docs; that of the other suites differs in its name alone."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to collect."""

    policy: Annotated[str, tyro.conf.Positional]
    """a policy.npz, a run folder, or `random` for uniform actions; or a suite, whose options are others: see `tabb
    collect odrl --help`"""
    out: Path
    """the HDF5 file to write"""
    task: str | None = None
    """the task to collect in; the one the policy was trained for if not given"""
    env: str | None = None
    """any Gymnasium environment id of flat boxes, instead of a task; that of the run if it has no task"""
    rows: int = 5_000
    """transitions; the last episode is cut where they are reached"""
    noise: float = 0.0
    """standard deviation of Gaussian noise added to actions, which are then clipped to [-1, 1]"""
    seed: int = 0
    """first reset seed, and seed of the noise"""
    engine: Literal["legacy", "native"] | None = None
    """physics: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's; the policy's own if not given"""
    next_observations: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """also store next observations: a larger file, in which the last row of a cut episode counts too"""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """replace a data set that tabb wrote before"""


def run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in SUITES:
        from tabb.commands.collect_suite import run_suite

        return run_suite(arguments)
    options = parse(Options, arguments, "tabb collect", "Roll a policy out into an HDF5 data set with provenance.")
    if options.out.exists() and not options.overwrite:
        raise UsageError(f"{options.out}: is there already; choose another name, or give --overwrite")
    refuse_others(options.out, "data")
    if not np.isfinite(options.noise) or options.noise < 0:
        raise UsageError(f"--noise {options.noise}: must be a number, zero or more")
    if options.task and options.env:
        raise UsageError(f"--task {options.task} with --env {options.env}: give one of them")
    from tabb.behaviours.collect import collect
    from tabb.policy import Policy
    from tabb.training.folder import env_of_run

    policy = None if options.policy == RANDOM else Policy.load(options.policy)
    env = options.env
    task = None if env else options.task or (policy.about.get("task") if policy else None)
    if task is None and env is None and policy is not None:
        env = env_of_run(Path(options.policy))
    if task is None and env is None:
        raise UsageError("give --task or --env: the policy does not name one")
    provenance = {"policy": RANDOM}
    if policy is not None:
        path = Path(options.policy)
        file = path / "policy.npz" if path.is_dir() else path
        about = {f"policy_{key}": value for key, value in policy.about.items() if value is not None}
        provenance = {
            "policy": file.name,
            "policy_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        } | about
    report = collect(
        policy,
        task,
        options.out,
        rows=options.rows,
        noise=options.noise,
        seed=options.seed,
        engine=options.engine,
        next_observations=options.next_observations,
        provenance=provenance,
        env_factory=env,
    )
    print(report)
    return 0

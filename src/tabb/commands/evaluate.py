"""`tabb evaluate`: the score of a trained policy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tabb.commands.options import parse
from tabb.errors import UsageError
from tabb.shown import tenths


@dataclasses.dataclass(frozen=True)
class Options:
    """What to evaluate, and where."""

    policy: Annotated[Path, tyro.conf.Positional]
    """a policy.npz, or a run folder"""
    task: str | None = None
    """the task; the one the policy was trained for if not given"""
    env: str | None = None
    """any Gymnasium environment id with flat Box observations and actions, instead of a task; that of the run if the
    policy names no task"""
    episodes: int = 10
    """episodes"""
    seed: int = 10_000
    """first reset seed; episode k begins with seed + k"""
    engine: Literal["legacy", "native"] | None = None
    """physics: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's; the policy's own if not given"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print JSON instead of text"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb evaluate", "Roll a trained policy out and print its score.")
    from tabb.environments.registration import env_factory_of
    from tabb.evaluation.scores import evaluate
    from tabb.policy import Policy
    from tabb.training.folder import env_of_run

    if options.task and options.env:
        raise UsageError(f"--task {options.task} with --env {options.env}: give one of them")
    policy = Policy.load(options.policy)
    env = options.env
    task = None if env else options.task or policy.about.get("task")
    if task is None and env is None:
        env = env_of_run(options.policy)
    if task is None and env is None:
        raise UsageError(f"{options.policy}: the policy names no task; give --task or --env")
    factory = env_factory_of(env) if env else None
    engine = options.engine if env else options.engine or policy.about.get("engine") or "legacy"
    result = evaluate(policy, task, options.episodes, options.seed, engine=engine, env_factory=factory)
    if options.json:
        about = {"policy": str(options.policy), "task": task, "env": env, "engine": engine}
        print(json.dumps(about | dataclasses.asdict(result) | {"mean": result.mean}, indent=2))
        return 0
    returns = sum(result.returns) / len(result.returns)
    where = task or env
    spread = f" ± {result.spread:.1f}" if len(result.returns) > 1 else ""
    score = "" if result.scores is None else f"score {result.mean:z.1f}{spread}, "
    physics = "" if env else f", engine {engine}"  # an environment has its own
    seeds = f"seeds {options.seed} to {options.seed + options.episodes - 1}"
    if options.episodes == 1:
        seeds = f"seed {options.seed}"
    print(
        f"{where}: {score}return {tenths(returns)}, length {sum(result.lengths) / len(result.lengths):.0f} "
        f"({options.episodes} episode{'' if options.episodes == 1 else 's'}, {seeds}{physics})"
    )
    return 0

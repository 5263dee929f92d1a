"""What should a policy imitate of few target rows? One critic, and policies of several cures that learn beside it.

IQL's policy does not act back on V and Q, so policies that imitate different rows can share one critic: they see the
same advantages of the same target rows in the same order, from the same first weights. Each is what a run of its own
would give. The critic learns from target rows alone (or from both domains, by `--critic RULE`). A cell is a task, a
quality of target data and a seed; its policies:

    logged              imitates target rows by their advantage weights, as target-only IQL does
    clone               imitates them all alike
    noisy               logged rows and copies whose states have noise
    corrective          logged rows and copies that lead back to them; the model behind knows target rows alone
    corrective:QUALITY  the same with a model of both domains, source rows of this quality
    ... matched         and the policy is held to the logged paths in a model of target rows alone
    ... matched:QUALITY the same in a model of both domains
    ... matched/16      with 16 rollouts in an update instead of 64
    ... x5              five such networks, acting together as their mean
    best ...            of rows of the episodes with at least 0.8 of the best return alone
    best+W ...          and of the others with weight W

    TABB_DATA=... python -m tabb.experiments.extraction --robots hopper --out runs/extraction
    python -m tabb.experiments.extraction --table benchmarks/results/extraction/*      prints the table again

A cell of five policies and 10,000 updates takes about three minutes on one core. Cells that the folder holds are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.backbones.backbone import Backbone, held_to_paths, sum_of
from tabb.backbones.iql import IQL, advantage_weight
from tabb.batch import Batch, Domains, Sizes, make_domains
from tabb.data import read
from tabb.data.catalogue import resolve
from tabb.data.report import log_return
from tabb.environments.tasks import get_task
from tabb.evaluation.scores import evaluate
from tabb.experiments.cells import SETTINGS, TEMPERATURE, table
from tabb.experiments.cures import Cure, cure_of
from tabb.files import write_json
from tabb.models.imitation import imitated_rows
from tabb.models.matching import Paths, model_config, path_model, paths_with
from tabb.models.target_model import PredictedStep, TargetModel
from tabb.networks import MLP, Committee, committee, members_of
from tabb.plain import plain
from tabb.policy import Policy
from tabb.provenance import environment
from tabb.registry import rule_class
from tabb.training.drawing import Data, Packed, draw, pack_data, pack_imitated
from tabb.training.loop import Program
from tabb.training.opening import IMITATED, PATHS
from tabb.training.row_limit import cut_episodes, limited
from tabb.transitions import Transitions

POLICIES = ("logged", "clone", "corrective", "corrective:medium", "corrective:expert")
SHIFTS = ("gravity-0.5", "kinematic", "morph")
ROBOTS = ("hopper", "halfcheetah", "walker2d", "ant")
QUALITIES = ("medium", "medium_expert", "expert")
LAST = 3
"""evaluations whose mean is the score: a single one swings by 20 points"""


class Imitator(NamedTuple):
    """A policy that is being trained beside the critic."""

    network: MLP | Committee
    optimiser: Any


def imitation_loss(
    network: MLP | Committee, observation: Float[Array, "b s"], action: Float[Array, "b a"], weight: Float[Array, " b"]
) -> Float[Array, ""]:
    """Σ over networks of mean_rows w · mean_entries (π(s) - a)², IQL's policy loss for each."""
    distances = [jnp.mean((jnp.tanh(one(observation)) - action) ** 2, axis=-1) for one in members_of(network)]
    return sum_of(jnp.mean(weight * distance) for distance in distances)


def policy_loss(
    network: MLP | Committee,
    observation: Float[Array, "b s"],
    action: Float[Array, "b a"],
    weight: Float[Array, " b"],
    batch: Batch,
) -> Float[Array, ""]:
    """Imitation, and trajectory matching where the batch has paths."""
    loss = imitation_loss(network, observation, action, weight)
    return held_to_paths(loss, network, batch, jnp.mean(weight))


class Imitated(NamedTuple):
    """What a policy imitates beside the rows of all: copies of them, paths that it is held to."""

    copies: Packed | None
    paths: Paths | None


def update_all(
    program: Program,
    cures: tuple[Cure, ...],
    models: Any,
    data: Data,
    imitated: tuple[Imitated, ...],
    keys: PRNGKeyArray,
    carry: tuple[Any, tuple[Imitator, ...]],
    number: Int[Array, ""],
) -> tuple[Any, tuple[Imitator, ...]]:
    """One update of the critic, and of every policy on the same target rows."""
    state, imitators = carry
    backbone = program.backbone
    assert isinstance(backbone, IQL)
    _, optimiser = backbone.optimisers(program.updates)
    key = jax.random.fold_in(keys, number)
    batch = draw(data, program.shares, key)
    first = program.shares[0]
    step = program.rule.represent(backbone.step(state, program.inputs(models, batch, key, number)))
    slow_q = jnp.min(state.slow_critic(step.critic), axis=0)
    advantage = slow_q - state.value(step.now)[..., 0]
    weight = advantage_weight(advantage, backbone.temperature, backbone.largest_advantage_weight)[first:]
    new = []
    for cure, (rows, paths), imitator in zip(cures, imitated, imitators, strict=True):
        drawn = draw(data._replace(imitated=rows, paths=paths), program.shares, key)
        observation, action = (column[first:] for column in drawn.to_imitate())
        counted = drawn.imitation_weight(jnp.ones(len(drawn)))[first:] * (weight if cure.advantages else 1.0)
        gradient = jax.grad(policy_loss)(imitator.network, observation, action, counted, drawn)
        change, optimiser_state = optimiser.update(gradient, imitator.optimiser)
        new.append(Imitator(optax.apply_updates(imitator.network, change), optimiser_state))
    state, _ = program.update(models, state, batch, jax.random.fold_in(key, 2), number)
    return state, tuple(new)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=6)
def updates_of_all(
    program: Program,
    cures: tuple[Cure, ...],
    models: Any,
    data: Data,
    imitated: tuple[Imitated, ...],
    key: PRNGKeyArray,
    carry: Any,
    first: Any,
    last: Any,
) -> Any:
    """Updates `first` to `last` - 1."""
    body = partial(update_all, program, cures, models, data, imitated, key)
    return jax.lax.fori_loop(first, last, lambda number, carry: body(carry, number), carry)


def load(quality: str, task: str, domain: Literal["source", "target"]) -> Transitions:
    return read(resolve(quality, task, domain)).transitions


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is trained together."""

    task: str
    target: str
    """quality of the target data"""
    policies: tuple[str, ...]
    critic: str = "target-only"
    """rule of the critic"""
    critic_source: str | None = None
    """quality of its source data; None for a rule that draws none"""
    seed: int = 0
    updates: int = 10_000
    evaluations: int = 5
    episodes: int = 10
    target_rows: int | None = None
    temperature: float = TEMPERATURE
    """IQL's β"""

    @property
    def file(self) -> str:
        """Name of its result."""
        parts = [self.task, self.target]
        parts += [] if self.critic == "target-only" else [self.critic, self.critic_source or "none"]
        parts += [] if self.target_rows is None else [f"{self.target_rows}-rows"]
        parts += [] if self.temperature == TEMPERATURE else [f"beta{self.temperature:g}"]
        return "-".join([*parts, f"seed{self.seed}"]) + ".json"


def run_cell(cell: Cell, keep: Path | None = None) -> dict[str, Any]:
    """Train and evaluate all policies of a cell; its result as JSON types.

    With `keep` the policies of each evaluation are saved there, as CELL/POLICY-UPDATE.npz.
    """
    began = time.monotonic()
    target, cut = target_of(cell)
    cures = tuple(cure_of(name) for name in cell.policies)
    init_key, prepare_key, draw_key = jax.random.split(jax.random.key(cell.seed), 3)
    program = Program(
        IQL(temperature=cell.temperature, policies=1, layer_norm=False), rule_class(cell.critic)(), cell.updates
    )
    source = target[:0] if cell.critic_source is None else load(cell.critic_source, cell.task, "source")
    domains = make_domains(source, target, "pooled", program.shares)
    models = program.rule.prepare(domains, prepare_key, lambda what, share: None)
    data = pack_data(domains, program.rule.columns(models, domains), program.rule.target_columns(models, domains))

    fitted: dict[str | None, TargetModel] = {}

    def imitated_by(cure: Cure) -> Imitated:
        known = target[:0] if cure.source is None else load(cure.source, cell.task, "source")
        both = with_source(domains, known)
        copies = paths = None
        if not cure.imitation.plain:
            copies = pack_imitated(imitated_rows(cure.imitation, both, jax.random.fold_in(prepare_key, IMITATED)))
        if cure.imitation.matching:
            for name in {cure.source, None} if cure.alone else {cure.source}:
                if name not in fitted:
                    rows = both if name is not None else with_source(domains, target[:0])
                    fitted[name] = path_model(cure.imitation, rows, jax.random.fold_in(prepare_key, PATHS))
            model = InTwoModels(fitted[None], fitted[cure.source]) if cure.alone else fitted[cure.source]
            paths = paths_with(model, cure.imitation, domains.target)
        return Imitated(copies, paths)

    imitated = tuple(imitated_by(cure) for cure in cures)
    prepared = time.monotonic() - began
    sizes = Sizes(target.observation_size, target.action_size)
    state = program.init(sizes, init_key)
    policy_key = jax.random.split(init_key, 3)[2]  # of IQL's own policy
    hidden = program.backbone.hidden  # type: ignore[attr-defined]
    _, optimiser = program.backbone.optimisers(cell.updates)  # type: ignore[attr-defined]

    def imitator(cure: Cure) -> Imitator:
        network = committee(policy_key, (sizes.observation, *hidden, sizes.action), cure.networks)
        return Imitator(network, optimiser.init(network))

    carry = (state, tuple(imitator(cure) for cure in cures))
    curves: dict[str, list[list[float]]] = {name: [] for name in cell.policies}
    points = [round(cell.updates * (i + 1) / cell.evaluations) for i in range(cell.evaluations)]
    spent = {"prepare": prepared, "train": 0.0, "evaluate": 0.0}
    for first, last in zip([0, *points[:-1]], points, strict=True):
        began = time.monotonic()
        carry = jax.block_until_ready(
            updates_of_all(program, cures, models, data, imitated, draw_key, carry, jnp.int32(first), jnp.int32(last))
        )
        spent["train"] += time.monotonic() - began
        began = time.monotonic()
        for name, one in zip(cell.policies, carry[1], strict=True):
            policy = Policy.from_networks(one.network, domains.normaliser)
            curves[name].append([last, round(evaluate(policy, cell.task, cell.episodes).mean, 2)])
            if keep is not None:
                folder = keep / Path(cell.file).stem
                folder.mkdir(parents=True, exist_ok=True)
                policy.save(folder / f"{re.sub('[ :/]', '-', name)}-{last}.npz")
        spent["evaluate"] += time.monotonic() - began
    return {
        **{name: getattr(cell, name) for name in ("task", "target", "critic", "critic_source", "seed", "updates")},
        "target_rows": cell.target_rows,
        "temperature": cell.temperature,
        "returns": returns_of(target, cell.task, cut),
        **settings_of(cell, program.backbone, cures),
        "scores": {name: float(np.mean([score for _, score in curve[-LAST:]])) for name, curve in curves.items()},
        "curves": curves,
        "seconds": {name: round(value, 1) for name, value in spent.items()},
        "environment": environment(),
    }


class InTwoModels(eqx.Module):
    """The first half of states acts in one model, the other half in the other: a policy learns what holds in both."""

    first: TargetModel
    second: TargetModel

    def __call__(self, observation: Float[Array, "b s"], action: Float[Array, "b a"]) -> PredictedStep:
        half = len(observation) // 2
        parts = self.first(observation[:half], action[:half]), self.second(observation[half:], action[half:])
        return jax.tree.map(lambda one, other: jnp.concatenate([one, other]), *parts)


def with_source(domains: Domains, source: Transitions) -> Domains:
    """Domains of the target alone, and this source normalised as they are: what a model of both is fitted to."""
    known = dataclasses.replace(
        jax.tree.map(jnp.asarray, source),
        observation=domains.normaliser(jnp.asarray(source.observation)),
        next_observation=domains.normaliser(jnp.asarray(source.next_observation)),
    )
    return domains._replace(source=known)


def target_of(cell: Cell) -> tuple[Transitions, set[int] | None]:
    """The target rows of a cell, and the numbers of the episodes that may not be whole in them (`log_return`)."""
    loaded = read(resolve(cell.target, cell.task, "target"))
    target, cut = loaded.transitions, loaded.report.cut
    rows = limited(target, cell.target_rows, cell.seed)
    if len(rows) < len(target):
        return rows, cut_episodes(target.episode, rows.episode) | set(cut or ())
    return target, None if cut is None else set(cut)


def returns_of(target: Transitions, task: str, cut: Collection[int] | None) -> float:
    """What the data themselves have, as a score (`log_return`)."""
    return float(get_task(task).normalised_score(log_return(target.reward, target.episode, cut)))


def settings_of(cell: Cell, backbone: Backbone, cures: Sequence[Cure]) -> dict[str, Any]:
    """What else the result of a cell depends on; JSON types. The model is that of policies that are held to paths."""
    told = {"evaluations": cell.evaluations, "episodes": cell.episodes, "backbone": plain(backbone)}
    del told["backbone"]["temperature"]  # in the names
    matched = [cure.imitation for cure in cures if cure.imitation.matching]
    return told | ({"model": plain(model_config(matched[0]))} if matched else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=ROBOTS)
    parser.add_argument("--shifts", nargs="+", choices=SHIFTS, default=SHIFTS)
    parser.add_argument("--targets", nargs="+", choices=QUALITIES, default=QUALITIES)
    parser.add_argument("--policies", nargs="+", default=POLICIES, metavar="POLICY")
    parser.add_argument("--critic", default="target-only", metavar="RULE")
    parser.add_argument("--critic-source", metavar="QUALITY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--target-rows", type=int)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE, help="IQL's β")
    parser.add_argument("--out", type=Path, default=Path("runs/extraction"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="save the policies there too")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FOLDER", help="print the table of finished cells")
    parser.add_argument(
        "--allow", nargs="+", choices=SETTINGS, default=(), help="settings in which its cells may differ"
    )
    options = parser.parse_args()
    if options.table is not None:
        print(table(options.table, options.allow))
        return
    for seed in options.seeds:
        for target in options.targets:
            for task in (f"{robot}-{shift}" for robot in options.robots for shift in options.shifts):
                cell = Cell(
                    task, target, tuple(options.policies), options.critic, options.critic_source, seed,
                    options.updates, target_rows=options.target_rows, temperature=options.temperature,
                )  # fmt: skip
                file = options.out / cell.file
                if file.exists():
                    continue
                result = run_cell(cell, options.keep)
                options.out.mkdir(parents=True, exist_ok=True)
                write_json(file, result)
                scores = "  ".join(f"{name} {score:z.1f}" for name, score in result["scores"].items())
                print(f"{cell.file}  {scores}  {result['seconds']}", flush=True)


if __name__ == "__main__":
    main()

"""How should the target's dynamics be told from the source's? Rank correlation with the oracle Bellman error.

A trial of forms that `tabb.rules.predictor` does not have yet: one dynamics model f fitted to both domains, and the
shift between them δ as a small model on top, which target rows alone see:

    source rows   s' - s = f(s, a)              target rows   s' - s = f(s, a) + δ(s, a)

Losses are robust (pseudo-Huber in units of a learned scale), δ is a constant, linear, or a small network with a
penalty on its size at the rows of both domains, and `share` is how much of the target rows' gradient f takes: 0 is a
source model alone, whose error in states that the source never saw then passes for a shift of the dynamics.

    TABB_DATA=... python benchmarks/shifts.py            about 25 minutes on one core, after V has been trained
    python benchmarks/shifts.py --table                  the table of the kept results

V is what `tabb figure oracle --out runs/figures/oracle` trains and keeps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tabb.backbones import IQL
from tabb.batch import Domains, make_domains
from tabb.data import read
from tabb.data.catalogue import resolve
from tabb.environments.tasks import TASKS, get_task
from tabb.evaluation.oracle import ask_target, oracle_error, rank_correlation, usable_rows
from tabb.experiments.oracle import learned_value
from tabb.networks import MLP, mlp
from tabb.training.config import environment

KEPT_ASIDE = ("hopper-morph", "walker2d-kinematic", "halfcheetah-gravity-0.5", "ant-kinematic")
"""tasks that no choice was made on"""
SHARES = (1.0, 0.1, 0.0)
RESULTS = Path(__file__).parent / "results" / "ablations" / "shifts.json"
HEADS, ROWS, UPDATES, TARGET_BATCH, BLOCK = 5, 3_000, 8_000, 128, 50


class Family(NamedTuple):
    """A form of δ and the factor on its size in the loss."""

    form: str
    penalty: float

    @property
    def label(self) -> str:
        return self.form if self.form == "constant" else f"{self.form} {self.penalty:g}"


FAMILIES = (
    Family("constant", 0.0),
    Family("linear", 0.001),
    Family("linear", 0.01),
    Family("linear", 0.1),
    Family("network", 0.01),
)


class Shift(eqx.Module):
    """K shifts δ_k = b_k + W_k z + h_k(z), z the state and action in deviations of the target data."""

    constant: jax.Array
    linear: jax.Array | None
    networks: tuple[MLP, ...]

    def __call__(self, z: jax.Array) -> jax.Array:
        shift = jnp.broadcast_to(self.constant[:, None], (HEADS, len(z), self.constant.shape[-1]))
        if self.linear is not None:
            shift = shift + jnp.einsum("nd,kdo->kno", z, self.linear)
        if self.networks:
            shift = shift + jnp.stack([network(z) for network in self.networks])
        return shift


class Model(eqx.Module):
    """f, the families of shifts, and the scale of the errors of each."""

    dynamics: MLP
    shifts: tuple[Shift, ...]
    log_scale: jax.Array
    target_log_scale: jax.Array


def init_model(key: jax.Array, inputs: int, outputs: int) -> Model:
    f_key, h_key = jax.random.split(key)
    shifts = []
    for family in FAMILIES:
        networks: tuple[MLP, ...] = ()
        if family.form == "network":
            fresh = [mlp(k, (inputs, 64, 64, outputs)) for k in jax.random.split(h_key, HEADS)]
            # The last layer starts at zero: before it has learned otherwise, the domains are one.
            networks = tuple(
                eqx.tree_at(lambda h: (h.weights[-1], h.biases[-1]), net, replace_fn=jnp.zeros_like) for net in fresh
            )
        linear = None if family.form == "constant" else jnp.zeros((HEADS, inputs, outputs))
        shifts.append(Shift(jnp.zeros((HEADS, outputs)), linear, networks))
    zeros = jnp.zeros(outputs)
    return Model(mlp(f_key, (inputs, 256, 256, outputs)), tuple(shifts), zeros, jnp.zeros((len(FAMILIES), outputs)))


def robust(error: jax.Array) -> jax.Array:
    """Near zero a square, far out the absolute error: contacts make errors with long tails."""
    return jnp.sqrt(error**2 + 0.01)


def fit(domains: Domains, share: float, seed: int) -> tuple[jax.Array, jax.Array, Model, Any]:
    """The fitted model, with the scales of the changes and of the reward, and the map to z."""
    source, target = domains.source, domains.target
    alive = 1 - source.terminal[:, None]
    change = jnp.sqrt(jnp.sum(((source.next_observation - source.observation) ** 2) * alive, 0) / alive.sum())
    change, gain = jnp.where(change < 1e-6, 1.0, change), jnp.std(source.reward)
    size = domains.source.observation_size

    def arrays(data: Any) -> tuple[jax.Array, ...]:
        goal = [(data.next_observation - data.observation) / change, data.reward[:, None] / gain]
        known = jnp.broadcast_to(1 - data.terminal[:, None], data.observation.shape)
        seen = jnp.concatenate([known, jnp.ones((len(data), 1))], -1)  # a terminal row has a reward, no next state
        return jnp.concatenate([data.observation, data.action], -1), jnp.concatenate(goal, -1), seen

    data = (arrays(source), arrays(target))
    rng = np.random.default_rng(seed)
    blocks = -(-len(target) // BLOCK)
    held = np.repeat(rng.random(blocks) < 0.2, BLOCK)[: len(target)]
    # The Bayesian bootstrap by blocks: rows that follow each other are not independent.
    drawn = np.repeat(rng.exponential(size=(blocks, HEADS)), BLOCK, 0)[: len(target)] * ~held[:, None]
    weights = jnp.asarray(drawn / drawn.mean(0), jnp.float32)
    middle, spread = data[1][0].mean(0), data[1][0].std(0) + 1e-3

    def see(x: jax.Array) -> jax.Array:
        return jnp.clip((x - middle) / spread, -5, 5)

    def loss(model: Model, key: jax.Array, data: Any, weights: jax.Array) -> jax.Array:
        source_key, target_key = jax.random.split(key)
        rows = jax.random.randint(source_key, (256,), 0, len(data[0][0]))
        x, goal, seen = (column[rows] for column in data[0])
        rows = jax.random.randint(target_key, (TARGET_BATCH,), 0, len(data[1][0]))
        x_target, goal_target, seen_target = (column[rows] for column in data[1])
        weight = weights[rows].T
        error = robust((model.dynamics(x) - goal) / jnp.exp(model.log_scale)) + model.log_scale
        total = jnp.mean(jnp.sum(seen * error, -1)) / size
        base = model.dynamics(x_target)
        base = share * base + (1 - share) * jax.lax.stop_gradient(base)
        unit = jax.lax.stop_gradient(jnp.exp(model.log_scale))
        for family, shift, log_scale in zip(FAMILIES, model.shifts, model.target_log_scale, strict=True):
            found = shift(see(x_target))
            error = robust((base + found - goal_target) / jnp.exp(log_scale)) + log_scale
            total += 0.5 * jnp.mean(weight * jnp.sum(seen_target * error, -1)) / size
            for part in (found, shift(see(x))) if family.penalty else ():
                extent = jnp.mean(jnp.sum(robust((part - shift.constant[:, None]) / unit), -1))
                total += 0.5 * family.penalty * extent / size
        return total

    optimiser = optax.adamw(optax.cosine_decay_schedule(1e-3, UPDATES), weight_decay=1e-4)

    @jax.jit
    def stretch(carry: Any, keys: jax.Array, data: Any, weights: jax.Array) -> Any:
        def update(carry: Any, key: jax.Array) -> tuple[Any, None]:
            model, state = carry
            step, state = optimiser.update(jax.grad(loss)(model, key, data, weights), state, model)
            return (optax.apply_updates(model, step), state), None

        return jax.lax.scan(update, carry, keys)[0]

    model = init_model(jax.random.key(seed), data[0][0].shape[1], size + 1)
    carry = (model, optimiser.init(model))
    for keys in jax.random.split(jax.random.key(seed + 9), UPDATES).reshape(10, -1):
        carry = stretch(carry, keys, data, weights)
    return change, gain, carry[0], see


def measure(task_name: str, seed: int, values: Path) -> list[dict[str, Any]]:
    """Rank correlations of every form on one task."""
    task = get_task(task_name)
    source = read(resolve("medium", task_name, "source")).transitions
    target = read(resolve("medium", task_name, "target")).transitions
    domains = make_domains(source, target)
    file = values / f"{task.name}-seed{seed}.npz"
    net = learned_value(domains, 40_000, seed, file, lambda what, share: None)
    value = jax.jit(lambda observation: net(observation)[..., 0])
    rows = usable_rows(task, source, ROWS, seed)
    truth = ask_target(task, source[rows])
    discount = IQL().discount
    error = oracle_error(lambda raw: value(domains.normaliser(jnp.asarray(raw))), source[rows], truth, discount)
    some = domains.source[rows]
    own = np.asarray(some.reward + discount * value(some.next_observation))
    found = []
    for share in SHARES:
        begun = time.perf_counter()
        change, gain, model, see = fit(domains, share, seed)
        seen = see(jnp.concatenate([some.observation, some.action], -1))
        for family, shift in zip(FAMILIES, model.shifts, strict=True):
            moved = np.asarray(shift(seen))

            def backups(moved: np.ndarray, change: jax.Array = change, gain: jax.Array = gain) -> np.ndarray:
                following = value(some.next_observation + change * moved[..., :-1])
                return np.asarray(some.reward + gain * moved[..., -1] + discount * following)

            predicted, mean, variance = backups(moved), moved.mean(0), moved.var(0, ddof=1)
            # What the heads do not agree on is shrunk towards no shift at all.
            agreed = mean * np.clip(1 - variance / (mean**2 + 1e-12), 0, 1)
            rankings = {
                "tbm": np.abs(predicted.mean(0) - own),
                "tbm, shrunk": np.abs(backups(agreed) - own),
                "tbm+, shrunk": np.abs(backups(agreed) - own) + predicted.std(0),
            }
            correlation = {name: round(rank_correlation(ranking, error), 3) for name, ranking in rankings.items()}
            found.append({"task": task.name, "seed": seed, "share": share, "form": family.label} | correlation)
        print(f"{task.name}: share {share:g}, {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def table(results: list[dict[str, Any]], ranking: str) -> str:
    """Rank correlation of one ranking: a line per form and share, a column per task."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    lines = [f"| share | shift | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 3) + "|"]
    for share, form in dict.fromkeys((result["share"], result["form"]) for result in results):
        cells = [r[ranking] for t in tasks for r in results if (r["task"], r["share"], r["form"]) == (t, share, form)]
        shown = " | ".join(f"{cell:.2f}" for cell in [*cells, float(np.mean(cells))])
        lines.append(f"| {share:g} | {form} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=[t.name for t in TASKS.values() if "otdf" in t.suites])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--values", type=Path, default=Path("runs/figures/oracle/values"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the table of the results in --out")
    options = parser.parse_args()
    if not options.table:
        tasks = [task for task in options.tasks if task not in KEPT_ASIDE]
        results = [result for task in tasks for result in measure(task, options.seed, options.values)]
        kept = {"environment": environment(), "updates": UPDATES, "rows": ROWS, "results": results}
        options.out.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(json.loads(options.out.read_text())["results"], "tbm+, shrunk"))


if __name__ == "__main__":
    main()

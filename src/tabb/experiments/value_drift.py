"""Why TD3+BC's values grow without end on few rows of two domains: its policy's gain over the data, backup by backup.

    ε    mean Q(s', π(s')) / mean Q(s, a) - 1        the share that a backup adds, where states keep their value
    a backup multiplies values by γ (1 + ε): from ε = 1/γ - 1 on they have no fixed point

The policy climbs Q / mean|Q|, so that its gain is a share of the values however large they are: once ε passes 1/γ - 1
nothing holds them.

    python -m tabb.experiments.value_drift --updates 60000 --json FILE.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tabb.backbones import TD3BC
from tabb.batch import Domains, Sizes, make_domains
from tabb.data import load, resolve
from tabb.files import write_json
from tabb.provenance import environment
from tabb.rules import Pooled
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates
from tabb.transitions import Transitions

CRITICS = {"plain": False, "normed": True}
"""critics of the comparison, and whether layers are normalised in them"""
ROWS = 2_000
"""rows of each domain that are asked about"""


def relative_gain(ahead: float, here: float) -> float:
    """ε = Q(s', π(s')) / Q(s, a) - 1 of mean values."""
    return ahead / here - 1.0


def largest_gain(discount: float) -> float:
    """1/γ - 1: the gain from which backups have no fixed point."""
    return 1.0 / discount - 1.0


def asked(state: Any, rows: Transitions) -> dict[str, float]:
    """Mean values of logged actions and of the policy's at the next states, and the largest of these."""

    def value(observation: Any, action: Any) -> Any:
        return jnp.min(state.critic(jnp.concatenate([observation, action], axis=-1)), axis=0)

    alive = 1.0 - rows.terminal
    here = value(rows.observation, rows.action)
    ahead = value(rows.next_observation, jnp.tanh(state.policy(rows.next_observation)))
    return {
        "here": float(jnp.mean(here)),
        "ahead": float(jnp.sum(alive * ahead) / jnp.sum(alive)),
        "largest": float(jnp.max(alive * ahead)),
    }


def drift(domains: Domains, layer_norm: bool, updates: int, every: int, seed: int) -> list[dict[str, Any]]:
    """What critics say after each `every` updates of pooled TD3+BC."""
    program = Program(TD3BC(layer_norm=layer_norm), Pooled(), updates)
    sizes = Sizes(domains.target.observation_size, domains.target.action_size)
    data, state = pack_data(domains, {}, {}), program.init(sizes, jax.random.key(seed))
    points = []
    for first in range(0, updates, every):
        last = min(first + every, updates)
        state, metrics = compiled_updates(program, (), data, jax.random.key(seed + 1), state, first, last)
        point: dict[str, Any] = {"update": last, "mean_value": float(metrics["mean_value"])}
        point["critic_loss"] = float(metrics["critic_loss"])
        for name in ("source", "target"):
            part = getattr(domains, name)
            said = asked(state, part[np.random.default_rng(seed).integers(0, len(part), ROWS)])
            point[name] = said | {"gain": relative_gain(said["ahead"], said["here"])}
        points.append(point)
        print({key: round(value, 4) for key, value in (point | point["target"]).items() if key != "source" and
               not isinstance(value, dict)}, flush=True)  # fmt: skip
    return points


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", default="hopper-gravity-0.5")
    parser.add_argument("--quality", default="medium", help="of both data sets")
    parser.add_argument("--updates", type=int, default=60_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    source, target = (load(resolve(options.quality, options.task, side)) for side in ("source", "target"))
    domains = make_domains(source, target)
    runs = {
        name: drift(domains, normed, options.updates, options.every, options.seed) for name, normed in CRITICS.items()
    }
    if options.json is not None:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        limit = largest_gain(TD3BC().discount)
        write_json(options.json, settings | {"largest_gain": limit, "runs": runs, "environment": environment()})


if __name__ == "__main__":
    main()

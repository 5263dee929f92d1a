"""A policy as a StableHLO program, serialised by jax.export for CPU and CUDA; any batch size except 0."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array, export, lax

from tabb._version import __version__
from tabb.files import atomic
from tabb.own_files import refuse_others
from tabb.policy import Layers, Policy
from tabb.policy.candidates import CandidatePolicy

PLATFORMS = ("cpu", "cuda")


def action_of(policy: Policy, observation: Array) -> Array:
    """Actions [B, A] of `Policy.act` for raw observations [B, S]; NaN where an entry is not finite."""
    x = (observation - policy.mean) / policy.scale
    if isinstance(policy, CandidatePolicy):
        action = _best_candidate(policy, x)
    else:
        action = jnp.tanh(_forward((policy.weights, policy.biases), x))
    bounds = policy.action_bounds
    if bounds is not None:
        middle, half = bounds.middle_and_half()
        action = jnp.clip(middle + half * action, *bounds.as_float32())
    return jnp.where(jnp.isfinite(x).all(axis=-1, keepdims=True), action, jnp.nan)


def _best_candidate(policy: CandidatePolicy, x: Array) -> Array:
    count = len(policy.latents)
    states = jnp.broadcast_to(x[:, None], (x.shape[0], count, x.shape[1]))
    latents = jnp.broadcast_to(policy.latents, (x.shape[0], *policy.latents.shape))
    decoded = jnp.tanh(_forward((policy.weights, policy.biases), jnp.concatenate([states, latents], axis=-1)))
    change = jnp.tanh(_forward(policy.perturbation, jnp.concatenate([states, decoded], axis=-1)))
    actions = jnp.clip(decoded + jnp.float32(policy.reach) * change, -1.0, 1.0)
    values = _forward(policy.critic, jnp.concatenate([states, actions], axis=-1))[..., 0]
    best = jnp.argmax(values, axis=-1)[:, None, None]
    return jnp.take_along_axis(actions, best, axis=1)[:, 0]


def _forward(layers: Layers, x: Array) -> Array:
    """`tabb.policy.forward` in JAX; of several networks for [B, in]. The precision keeps GPUs from TF32's 10 bits."""
    weights, biases = layers
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = jnp.matmul(jnp.maximum(x, 0.0) if i else x, weight, precision=lax.Precision.HIGHEST) + bias
    return jnp.mean(x, axis=0) if weights[0].ndim == 3 else x


def write_stablehlo(policy: Policy, out: Path) -> None:
    """Write the program to `out` and its metadata to `out` with ".json" added. Raises `RunError` if that fails.

    Raises `UsageError` where one of them is there and is not of tabb.
    """
    metadata_file = out.with_name(f"{out.name}.json")
    refuse_others(out, "stablehlo")
    refuse_others(metadata_file, "stablehlo-json")
    (batch,) = export.symbolic_shape("batch")
    observations = jax.ShapeDtypeStruct((batch, policy.observation_size), jnp.float32)

    def act(observation: Array) -> Array:
        return action_of(policy, observation)

    exported = export.export(jax.jit(act), platforms=PLATFORMS)(observations)
    bounds = policy.action_bounds
    header = {
        "format": "tabb-stablehlo-1",
        "tabb": __version__,
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        "platforms": PLATFORMS,
        "observation_size": policy.observation_size,
        "action_size": policy.action_size,
        **({} if bounds is None else {"action_bounds": dataclasses.asdict(bounds)}),
        "about": policy.about,
    }
    # The description takes its place first, and no older program beside it: what is cut off here has nothing to load.
    with atomic(out) as program, atomic(metadata_file) as description:
        program.write_bytes(exported.serialize())
        description.write_text(json.dumps(header, indent=2) + "\n")
        out.unlink(missing_ok=True)

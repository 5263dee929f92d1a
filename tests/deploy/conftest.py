from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabb.policy import Layers, Policy, forward
from tabb.policy.candidates import CandidatePolicy

S, A, CANDIDATES = 5, 2, 100
ABOUT = {"task": "some-task", "seed": 3, "name": "µ", "nested": {"a": [1, 2.5, None]}}


def _network(generator: np.random.Generator, *sizes: int) -> Layers:
    shapes = list(itertools.pairwise(sizes))
    bounds = [1.5 / np.sqrt(n_in) for n_in, _ in shapes]
    return (
        tuple(generator.uniform(-b, b, shape).astype(np.float32) for b, shape in zip(bounds, shapes, strict=True)),
        tuple(generator.uniform(-b, b, n_out).astype(np.float32) for b, (_, n_out) in zip(bounds, shapes, strict=True)),
    )


@pytest.fixture(scope="session")
def policies() -> dict[str, Policy]:
    """A policy of one network, of several, and of candidates. Entry 3 never changed in training: its scale is 1."""
    generator = np.random.default_rng(0)
    normaliser = (
        np.array([0.5, -20.0, 0.0, 7.0, 1e-3], np.float32),
        np.array([2.0, 50.0, 0.03, 1.0, 0.5], np.float32),
    )
    several = np.random.default_rng(1)
    each = [_network(several, S, 64, 48, A) for _ in range(3)]
    latents = np.clip(generator.normal(size=(CANDIDATES, 2 * A)), -0.5, 0.5).astype(np.float32)
    return {
        "policy": Policy(*normaliser, *_network(generator, S, 256, 256, A), ABOUT),
        "several": Policy(
            *normaliser,
            tuple(np.stack([weights[i] for weights, _ in each]) for i in range(3)),
            tuple(np.stack([biases[i] for _, biases in each])[:, None] for i in range(3)),
            ABOUT,
        ),
        "candidates": CandidatePolicy(
            *normaliser,
            *_network(generator, S + 2 * A, 64, 64, A),
            ABOUT,
            _network(generator, S + A, 48, 32, A),
            _network(generator, S + A, 48, 32, 1),
            latents,
            0.3,
        ),
    }


@pytest.fixture(scope="session")
def draw(policies):
    """`draw(rows)`: observations as in training; entry 3 is constant."""

    def drawn(rows: int, seed: int = 1) -> np.ndarray:
        policy = policies["policy"]
        standard = np.random.default_rng(seed).normal(size=(rows, S))
        standard[:, 3] = 0.0
        return (policy.mean + policy.scale * standard).astype(np.float32)

    return drawn


def _clear(policy: Policy, observations: np.ndarray) -> np.ndarray:
    """Whether no rounding decides an action: candidates of almost the best value are the same action as the best."""
    if not isinstance(policy, CandidatePolicy):
        return np.ones(len(observations), bool)
    x = (observations - policy.mean) / policy.scale
    states = np.repeat(x[:, None], CANDIDATES, axis=1)
    latents = np.broadcast_to(policy.latents, (len(x), *policy.latents.shape))
    actions = np.tanh(forward((policy.weights, policy.biases), np.concatenate([states, latents], -1)))
    change = np.tanh(forward(policy.perturbation, np.concatenate([states, actions], -1)))
    actions = np.clip(actions + np.float32(policy.reach) * change, -1, 1)
    values = forward(policy.critic, np.concatenate([states, actions], -1))[..., 0]
    close = values > values.max(axis=-1, keepdims=True, initial=-np.inf) - 1e-5
    best = np.take_along_axis(actions, values.argmax(axis=-1)[:, None, None], axis=1)
    return (~close | (np.abs(actions - best) < 1e-6).all(axis=-1)).all(axis=-1)


@pytest.fixture(scope="session")
def agree():
    """`agree(policy, observations, actions)`: actions are the policy's to 1e-6."""

    def check(policy: Policy, observations: np.ndarray, actions: np.ndarray) -> None:
        wanted, clear = policy.act(observations), _clear(policy, observations)
        assert actions.shape == wanted.shape
        assert actions.dtype == np.float32
        assert clear.sum() >= 0.9 * len(observations)
        np.testing.assert_allclose(actions[clear], wanted[clear], rtol=0, atol=1e-6)

    return check


@pytest.fixture(scope="session")
def without_tabb():
    """`without_tabb(folder, script, *barred)`: run a script in a fresh process that cannot import tabb or `barred`."""

    def run(folder: Path, script: str, *barred: str) -> None:
        names: Any = ["tabb", *barred]
        head = f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"
        command = [sys.executable, "-W", "error", "-c", head + script]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run

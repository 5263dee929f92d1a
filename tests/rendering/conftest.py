from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.policy import Policy


@pytest.fixture(scope="session")
def renderer() -> str:
    """The name of an OpenGL that works here; tests that draw skip where there is none."""
    from tabb.rendering.backend import find_backend

    try:
        return find_backend()
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_policy(tmp_path: Path):
    """`make_policy(task, rule, seed)`: the file of a policy of two random networks, which soon falls over."""

    def make(task: str, rule: str = "tabb", seed: int = 0, scale: float = 0.3) -> Path:
        sizes = get_task(task).observation_size, get_task(task).action_size
        weights = np.random.default_rng(seed).normal(0, scale, sizes).astype(np.float32)
        apart = np.random.default_rng(seed + 1).normal(0, scale, sizes).astype(np.float32)
        policy = Policy(
            np.zeros(sizes[0], np.float32),
            np.ones(sizes[0], np.float32),
            (np.stack([weights + apart, weights - apart]),),
            (np.zeros((2, 1, sizes[1]), np.float32),),
            {"task": task, "rule": rule, "backbone": "iql", "seed": seed},
        )
        folder = tmp_path / f"{task}-{rule}" / f"seed{seed}"
        folder.mkdir(parents=True)
        return policy.save(folder / "policy.npz").parent

    return make

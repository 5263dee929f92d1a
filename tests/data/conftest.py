import os
from pathlib import Path

import numpy as np
import pytest

from cart import cart


@pytest.fixture
def steps():
    """`steps(rows, seed)`: columns of that many rows, 3 observation and 2 action entries, no ends marked."""

    def make(rows=12, seed=0):
        rng = np.random.default_rng(seed)
        return {
            "observations": rng.normal(size=(rows, 3)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
            "rewards": rng.normal(size=rows).astype(np.float32),
            "terminals": np.zeros(rows, bool),
            "timeouts": np.zeros(rows, bool),
        }

    return make


@pytest.fixture(scope="session")
def cart_log():
    """3,000 rows of a cart, 92 episodes ended by the task and 96 by the time limit. Leave the arrays as they are."""
    return cart(3000, 1)


@pytest.fixture
def real_data():
    """The folder of the real data sets."""
    root = os.environ.get("TABB_DATA")
    if not root:
        pytest.skip("TABB_DATA is not set: it names the folder with source/ and target/")
    return Path(root)

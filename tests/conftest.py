import atexit
import itertools
import os
import shutil
import signal
import tempfile

import jax
import numpy as np
import pytest

from tabb.jax_programs import drop_programs_if_many
from tabb.transitions import Transitions

pytest_plugins = ["learning"]

# Before anything is compiled, here and in children of the tests. The tests compile thousands of programs and run each a
# little: without LLVM's optimisation they take two thirds of the time, and without XLA's newer emitters of fusions two
# thirds of that. Those emitters round alike however a sum is fused; without them, equalities of bits need a processor
# that fuses no multiplication with an addition (AVX). TABB_TESTS_OPTIMISED=1 tests what users run.
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"
if "TABB_TESTS_OPTIMISED" not in os.environ and UNOPTIMISED not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {UNOPTIMISED}".strip()

os.environ["D4RL_DATASET_DIR"] = os.devnull  # downloads of whoever runs the tests are not theirs
os.environ["TABB_CACHE"] = "off"  # what one test prepared must not spare another the work it tests

# Most of the time of these tests would be that of compiling the same programs again, in each `train` and in each of
# pytest's processes: they share what is compiled. Not with children of the tests: some are killed as they write.
COMPILED = "TABB_TESTS_COMPILED"
if COMPILED not in os.environ:
    os.environ[COMPILED] = tempfile.mkdtemp(prefix="tabb-tests-")
    atexit.register(shutil.rmtree, os.environ[COMPILED], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ[COMPILED])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="module")
def optimised_children():
    """For tests whose children run thousands of updates: unoptimised, those take longer than compiling."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = flags.replace(UNOPTIMISED, "").strip()
    yield
    os.environ["XLA_FLAGS"] = flags


@pytest.fixture
def hang_up_is_heard():
    """SIGHUP as a terminal's child has it, also where the tests run under `nohup`, or a CI that ignores it likewise."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


_finished = itertools.count(1)


def pytest_runtest_teardown():
    """Three thousand tests in two processes compile more programs than a process may hold (tabb.jax_programs)."""
    if next(_finished) % 20 == 0:
        drop_programs_if_many(share=0.2)


def _rows(generator, rows, shift, observation_size=3, action_size=2):
    """Linear dynamics; where s_0 > 0, `shift` is added to the next s_1. About a tenth of the rows end."""
    observation = generator.normal(size=(rows, observation_size))
    action = generator.uniform(-1, 1, (rows, action_size))
    following = 0.9 * observation + 0.01 * generator.normal(size=(rows, observation_size))
    following[:, :action_size] += 0.3 * action
    following[:, 1] += shift * (observation[:, 0] > 0)
    terminal = generator.random(rows) < 0.1
    return Transitions(
        observation.astype(np.float32),
        action.astype(np.float32),
        (observation[:, 2] + 0.1 * action[:, 0]).astype(np.float32),
        following.astype(np.float32),
        terminal.astype(np.float32),
        np.cumsum(np.r_[0, terminal[:-1]]).astype(np.int32),
    )


@pytest.fixture(scope="session")
def make_pair():
    """`make_pair(source_rows, ...)`: two data sets with 3 observation and 2 action entries."""

    def make(source_rows=1500, target_rows=600, shift=1.0, seed=0):
        generator = np.random.default_rng(seed)
        return _rows(generator, source_rows, 0.0), _rows(generator, target_rows, shift)

    return make


@pytest.fixture(scope="session")
def pair(make_pair):
    """A source of 1500 and a target of 600 rows whose dynamics differ where s_0 > 0."""
    return make_pair()

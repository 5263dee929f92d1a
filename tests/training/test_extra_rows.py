"""Rows that a rule makes: drawn as a third group, made anew when they are due, part of a run that is killed."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from made_rules import Imagined, Mirrored
from tabb.batch import ExtraRows, make_domains
from tabb.data import save_npz
from tabb.errors import UsageError
from tabb.rules.rule import on_extra, on_source
from tabb.training.drawing import draw, pack_data, pack_extra, unpack_extra
from tabb.training.loop import Program, compiled_updates, update_once

UPDATES = 12


def extra_rows(count):
    """Rows whose every field tells the row's number, from 1,000 on."""
    number = 1000.0 + jnp.arange(count, dtype=jnp.float32)
    wide = number[:, None] + jnp.zeros(3)
    return ExtraRows(
        wide, number[:, None] / jnp.array([2000.0, 4000.0]), number + 0.5, wide + 1, number % 2, {"reward": number**2}
    )


# --- batches ---


@pytest.fixture(scope="module")
def data(domains):
    columns = {"number": jnp.arange(len(domains.source))}
    return pack_data(domains, columns, {"number": jnp.arange(len(domains.target))})


def test_extra_rows_come_last_with_their_columns(domains, data):
    batch = draw(data, (6, 4), jax.random.key(0), 300, pack_extra(extra_rows(5)))
    assert (len(batch), batch.source_rows, batch.target_rows, batch.extra_rows) == (310, 6, 4, 300)
    number = np.asarray(batch.observation[10:, 0])
    np.testing.assert_array_equal(np.unique(number), 1000 + np.arange(5))
    np.testing.assert_array_equal(batch.reward[10:], number + 0.5)
    np.testing.assert_array_equal(batch.next_observation[10:, 2], number + 1)
    np.testing.assert_array_equal(batch.terminal[10:], number % 2)
    np.testing.assert_array_equal(batch.extra_columns["reward"], number**2)  # a column may be called as a field is
    # The other rows are those that are drawn without extra rows.
    alone = draw(data, (6, 4), jax.random.key(0))
    for name in ("observation", "action", "reward", "next_observation", "terminal"):
        np.testing.assert_array_equal(getattr(batch, name)[:10], getattr(alone, name))
    np.testing.assert_array_equal(batch.columns["number"], alone.columns["number"])
    np.testing.assert_array_equal(batch.target_columns["number"], alone.target_columns["number"])
    # And they stay where source rows are left out.
    best = batch.best_source(jnp.arange(6.0), 2)
    assert (best.source_rows, best.target_rows, best.extra_rows) == (2, 4, 300)
    np.testing.assert_array_equal(best.observation[2:], batch.observation[6:])


def test_values_of_one_group(batch):
    batch = dataclasses.replace(batch, source_rows=2, extra_rows=1)
    np.testing.assert_array_equal(on_source(batch, jnp.array([5.0, 6.0]), 1.0), [5, 6, 1, 1, 1, 1])
    np.testing.assert_array_equal(on_extra(batch, jnp.array([5.0]), 1.0), [1, 1, 1, 1, 1, 5])


# --- rows made anew ---


@pytest.fixture(scope="module")
def imagined(backbone, domains, sizes):
    """Learner, data and the start (a fresh copy at each call) of a rule that makes rows anew every 5 updates."""
    learner = Program(backbone, Imagined(), UPDATES)
    data = pack_data(domains, {})

    def start():
        return learner.init(sizes, jax.random.key(1), learner.extra_rows((), domains, jax.random.key(3)))

    return learner, data, start


def made_at(state):
    numbers = unpack_extra(state.extra, jnp.arange(len(state.extra.matrix))).columns["made_at"]
    assert len(set(np.asarray(numbers).tolist())) == 1
    return float(numbers[0])


def test_rows_are_made_anew_before_each_fifth_update(imagined):
    learner, data, start = imagined
    assert made_at(start()) == -1  # as `extra_rows` made them
    for last, wanted in ((1, 0), (5, 0), (6, 5), (10, 5), (11, 10)):
        state, _ = compiled_updates(learner, (), data, jax.random.key(2), start(), 0, last)
        assert made_at(state) == wanted, last


def test_python_loop_equals_compiled_loop_that_makes_rows(imagined, largest_difference):
    learner, data, start = imagined
    once = jax.jit(lambda state, number: update_once(learner, (), data, jax.random.key(2), state, number))
    state = start()
    for number in range(UPDATES):
        state, _ = once(state, jnp.asarray(number))
    whole, _ = compiled_updates(learner, (), data, jax.random.key(2), start(), 0, UPDATES)
    assert largest_difference(state, whole) < 1e-5


def test_rows_are_made_with_the_policy_and_the_value_of_their_update(imagined, domains):
    """The rows of update 5, written out: actions and rewards are those of the state after 5 updates."""
    learner, data, start = imagined
    before, _ = compiled_updates(learner, (), data, jax.random.key(2), start(), 0, 5)
    before = jax.tree.map(jnp.copy, before)
    after, _ = compiled_updates(learner, (), data, jax.random.key(2), jax.tree.map(jnp.copy, before), 5, 6)
    rows = unpack_extra(after.extra, jnp.arange(20))
    np.testing.assert_allclose(rows.action, jnp.tanh(before.policy(rows.observation)), atol=1e-6)
    np.testing.assert_allclose(rows.reward, before.value(rows.next_observation)[:, 0], atol=1e-5)
    known = {row.tobytes() for row in np.asarray(domains.target.observation)}
    assert all(row.tobytes() in known for row in np.asarray(rows.observation)), "they start from target rows"
    assert len({row.tobytes() for row in np.asarray(rows.observation)}) > 15


# --- wrong rows ---


@dataclasses.dataclass(frozen=True)
class Wrong(Imagined):
    """Makes rows of the wrong kind."""

    kind: str = ""

    def extra_rows(self, models, domains, key):
        rows = super().extra_rows(models, domains, key)
        if self.kind == "none":
            return None
        if self.kind == "wide":
            return dataclasses.replace(rows, observation=jnp.zeros((20, 7)), next_observation=jnp.zeros((20, 7)))
        if self.kind == "short column":
            return dataclasses.replace(rows, columns={"made_at": jnp.zeros(3)})
        return rows

    def refresh(self, step, rows):
        made = super().refresh(step, rows)
        return jax.tree.map(lambda leaf: leaf[:7], made) if self.kind == "fewer" else made


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("none", "rule imagined: extra_share asks for 8 extra rows in a batch, but extra_rows makes none"),
        ("wide", "extra_rows gives observation of shape (20, 7); give (20, 3)"),
        ("short column", "extra_rows gives a column 'made_at' of shape (3,)"),
        ("fewer", "refresh returns 7 rows of observation [3]"),
    ],
)
def test_rows_that_do_not_fit_are_refused(kind, says, pair):
    settings = tabb.Settings(updates=2, evaluations=0, backbone=tabb.IQL(policies=1, hidden=(4,), batch_size=4))
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        tabb.train(Wrong(kind=kind), *pair, settings=settings)
    assert "\n" not in str(caught.value)


# --- runs ---

CHILD = """
import sys
import tabb
from made_rules import Imagined
folder, out, updates = sys.argv[1:]
settings = tabb.Settings(
    updates=int(updates), evaluations=20, held_out=0.0, backbone=tabb.IQL(policies=1, hidden=(16, 16), batch_size=16)
)
source, target = (tabb.load(f"{folder}/{name}.npz") for name in ("source", "target"))
tabb.train(Imagined(refresh_every=1_500), source, target, settings=settings, folder=out)
"""


def child(*arguments: str | Path) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join(part for part in (tests, os.environ.get("PYTHONPATH", "")) if part)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_rows_it_had_made(pair, tmp_path):
    """SIGKILL between two times of making rows: what was made is in the checkpoint, and the run ends as it would."""
    for name, data in zip(("source", "target"), pair, strict=True):
        save_npz(tmp_path / f"{name}.npz", data)
    source, target = (tabb.load(tmp_path / f"{name}.npz") for name in ("source", "target"))
    settings = tabb.Settings(
        updates=20_000, evaluations=20, held_out=0.0, backbone=tabb.IQL(policies=1, hidden=(16, 16), batch_size=16)
    )
    rule, out = Imagined(refresh_every=1_500), tmp_path / "killed"
    process = child(tmp_path, out, settings.updates)
    deadline = time.monotonic() + 300
    while not (out / "seed0" / "checkpoint.npz").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (out / "seed0" / "result.json").exists(), "killed too late to prove anything"
    tabb.train(rule, source, target, settings=settings, folder=out, resume=True)
    tabb.train(rule, source, target, settings=settings, folder=tmp_path / "whole")
    with (
        np.load(out / "seed0" / "checkpoint.npz") as killed,
        np.load(tmp_path / "whole" / "seed0" / "checkpoint.npz") as whole,
    ):
        assert killed.files == whole.files
        for name in whole.files:
            if name != "header":  # it holds wall times
                np.testing.assert_array_equal(killed[name], whole[name])


def test_rows_made_once_depend_on_the_seed_and_change_what_is_learned(pair, same_bits):
    settings = tabb.Settings(updates=4, evaluations=0, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=16))

    def weights(rule, seed=0):
        (run,) = tabb.train(rule, *pair, settings=settings, seeds=(seed,))
        return run.policy.weights

    assert same_bits(weights(Mirrored()), weights(Mirrored()))
    assert not same_bits(weights(Mirrored()), weights(tabb.Pooled()))
    domains = make_domains(*pair)
    learner = Program(settings.backbone, Mirrored(), 4)
    first, second = (learner.extra_rows((), domains, jax.random.key(seed)).matrix for seed in (0, 1))
    assert not np.array_equal(first, second)

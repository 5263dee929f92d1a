"""Learning from fewer rows: which ones, that training sees no others, and that a record leads back to them."""

import dataclasses

import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.data import save_npz
from tabb.data.report import log_return
from tabb.errors import UsageError
from tabb.results.row_scores import open_run, score_rows
from tabb.training import row_limit
from tabb.training.row_limit import cut_episodes, kept_rows, limited
from tabb.transitions import Transitions

SETTINGS = tabb.Settings(updates=4, evaluations=0, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8))
LENGTHS = [5, 3, 7, 1, 4]


def log():
    rows = sum(LENGTHS)
    wide = np.arange(rows, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    column = np.zeros(rows, np.float32)
    # Numbers need neither begin at 0 nor be in order.
    return Transitions(wide, wide * 0, column, wide, column, np.repeat([7, 2, 9, 4, 0], LENGTHS).astype(np.int32))


def test_whole_episodes_and_the_last_cut():
    data = log()
    starts = {0: 16, 2: 5, 4: 15, 7: 0, 9: 8}
    lengths = dict(zip([7, 2, 9, 4, 0], LENGTHS, strict=True))
    for seed in range(6):
        order = np.unique(data.episode)[np.random.default_rng(seed).permutation(5)].tolist()
        drawn = [starts[number] + k for number in order for k in range(lengths[number])]
        for rows in range(1, 20):
            found = kept_rows(data, rows, seed)
            assert found.tolist() == sorted(drawn[:rows])
    assert len({tuple(kept_rows(data, 8, seed)) for seed in range(6)}) > 1


def test_the_cut_episode_and_that_of_the_logs_end_do_not_count(monkeypatch):
    """Whatever their numbers are; read in pieces or whole."""
    data = log()  # episodes 7, 2, 9, 4, 0 of 5, 3, 7, 1 and 4 rows; the log ends in that of the highest number
    for piece in (3, 100):
        monkeypatch.setattr(row_limit, "PIECE", piece)
        kept = np.flatnonzero(np.isin(data.episode, [2, 7]))[:-1]  # row 7, the last of episode 2, is missing
        assert cut_episodes(data.episode, data.episode[kept]) == {2, 9}
        assert cut_episodes(data.episode, data.episode) == {9}
    rewards = np.where(data.episode == 7, 1.0, 10.0)
    assert log_return(rewards[kept], data.episode[kept], {2, 9}) == 5.0


def test_no_limit_is_the_data_itself():
    data = log()
    assert limited(data, None, 3) is data
    assert limited(data, 20, 3) is data
    assert limited(data, 99, 3) is data
    assert limited(data[:0], 5, 3) is not None
    np.testing.assert_array_equal(kept_rows(data, None, 0), np.arange(20))


def test_training_sees_these_rows_alone(pair):
    source, target = pair
    settings = dataclasses.replace(SETTINGS, source_rows=200, target_rows=100, rows_seed=5)
    (short,) = tabb.train(tabb.Pooled(), source, target, settings=settings)
    (same,) = tabb.train(
        tabb.Pooled(), source[kept_rows(source, 200, 5)], target[kept_rows(target, 100, 5)], settings=SETTINGS
    )
    observation = source.observation[:50]
    np.testing.assert_array_equal(short.policy.act(observation), same.policy.act(observation))
    (whole,) = tabb.train(tabb.Pooled(), source, target, settings=SETTINGS)
    assert not np.array_equal(short.policy.act(observation), whole.policy.act(observation))


def test_a_run_is_read_back_with_its_rows(pair, tmp_path, capsys):
    source, target = pair
    for name, data in (("source", source), ("target", target)):
        save_npz(tmp_path / f"{name}.npz", data)
    files = ["--source", str(tmp_path / "source.npz"), "--target", str(tmp_path / "target.npz")]
    small = [
        "--updates",
        "4",
        "--evaluations",
        "0",
        "--jobs",
        "1",
        "--backbone.policies",
        "1",
        "--backbone.hidden",
        "8",
        "--rule.updates",
        "3",
    ]
    limits = ["--source-rows", "200", "--target-rows", "100", "--rows-seed", "5"]
    command = ["train", "dara", *files, *small, "--rule.hidden", "8", *limits, "--out", str(tmp_path / "run")]
    assert main([*command, "--progress", "lines"]) == 0
    assert "source: 200 of these rows are used (--source-rows)" in capsys.readouterr().err
    rows = kept_rows(source, 200, 5)
    run = open_run(tmp_path / "run" / "seed0")
    assert (len(run.domains.source), len(run.domains.target)) == (200, 100)
    columns = score_rows(tmp_path / "run" / "seed0").columns
    np.testing.assert_array_equal(columns["file_row"], rows)
    np.testing.assert_array_equal(columns["episode"], source.episode[rows])
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("name", ["source_rows", "target_rows"])
def test_wrong_limits(name):
    with pytest.raises(UsageError, match=f"{name}=0: must be at least 1"):
        tabb.Settings(**{name: 0})
    with pytest.raises(UsageError, match=f"{name}=2.5: give a whole number"):
        tabb.Settings(**{name: 2.5})
    with pytest.raises(UsageError, match="rows_seed=-1"):
        tabb.Settings(rows_seed=-1)

"""`tabb score`: the scores of source rows are those of the update's own formulas, for every row of the file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.data import save_npz, write_hdf5
from tabb.data.report import log_return
from tabb.errors import RunError, UsageError
from tabb.provenance import fingerprint
from tabb.results.answer import logged_return
from tabb.results.row_scores import open_run, run_data, score_rows
from tabb.rules.soft_weights import soft_weight
from tabb.training.row_limit import cut_episodes, rows_of_episodes

SMALL = ["--updates", "20", "--evaluations", "0", "--progress", "none", "--jobs", "1"]
NETWORKS = ["--backbone.policies", "1", "--backbone.hidden", "8", "8", "--backbone.batch-size", "32"]


@pytest.fixture(scope="module")
def files(make_pair, tmp_path_factory) -> dict[str, str]:
    """A source file with an episode whose last row is dropped, and a target file."""
    folder = tmp_path_factory.mktemp("data")
    source, target = make_pair(400, 200)
    timeouts = np.zeros(400, bool)
    timeouts[99] = True
    columns = {
        "observations": source.observation,
        "actions": source.action,
        "rewards": source.reward,
        "terminals": source.terminal > 0,
        "timeouts": timeouts & ~(source.terminal > 0),
    }
    write_hdf5(folder / "source.hdf5", columns)
    save_npz(folder / "target.npz", target)
    return {"source": str(folder / "source.hdf5"), "target": str(folder / "target.npz")}


PREDICTOR = ["--rule.predictor.updates", "5", "--rule.predictor.heads", "2", "--rule.predictor.hidden", "8"]


def trained(files: dict[str, str], out: Path, *options: str) -> Path:
    arguments = ["train", *options, "--source", files["source"], "--target", files["target"], "--out", str(out)]
    assert main([*arguments, *SMALL, *NETWORKS]) == 0
    return out / "seed0"


@pytest.fixture(scope="module")
def tabb_run(files, tmp_path_factory) -> Path:
    return trained(files, tmp_path_factory.mktemp("runs"), "tabb", "--rule.predictor", "residual", *PREDICTOR)


@pytest.mark.slow
def test_several_files_are_told_apart(files, make_pair, tmp_path, capsys):
    save_npz(tmp_path / "more.npz", make_pair(150, 50)[0])
    both = files | {"source": f"{files['source']}+{tmp_path / 'more.npz'}"}
    run = trained(both, tmp_path / "run", "tabb", "--rule.predictor.updates", "5", "--rule.predictor.hidden", "8")
    capsys.readouterr()
    assert main(["score", str(run)]) == 0
    told = capsys.readouterr().out
    with h5py.File(run / "scores.hdf5") as file:
        found = {name: file[name][()] for name in file}
        assert json.loads(file.attrs["files"]) == [files["source"], str(tmp_path / "more.npz")]
    parts = [tabb.load(name) for name in both["source"].split("+")]
    assert np.bincount(found["file"]).tolist() == [len(part) for part in parts]
    source = tabb.load(both["source"])
    for number, part in enumerate(parts):
        rows = found["file"] == number
        np.testing.assert_array_equal(source.observation[rows], part.observation)
        mean = f"mean tbm {found['tbm'][rows].mean():.4g}, mean weight {found['weight'][rows].mean():.4g}"
        assert f"file {number}: {len(part)} rows, {mean}: " in told
    with h5py.File(files["source"]) as file:
        np.testing.assert_array_equal(
            file["observations"][()][found["file_row"][found["file"] == 0]], parts[0].observation
        )
    assert found["file_row"][found["file"] == 1][0] == 400, "rows are numbered through, dropped ones too"


def test_scores_of_all_rows_by_the_formulas(tabb_run, files, tmp_path):
    assert main(["score", str(tabb_run), "--out", str(tmp_path / "scores.hdf5")]) == 0
    with h5py.File(tmp_path / "scores.hdf5") as file:
        found = {name: file[name][()] for name in file}
        assert b'"name": "tabb"' in file.attrs["rule"]
    source = tabb.load(files["source"])
    assert {len(column) for column in found.values()} == {len(source)}
    np.testing.assert_array_equal(found["episode"], source.episode)
    with h5py.File(files["source"]) as file:
        np.testing.assert_array_equal(file["observations"][()][found["file_row"]], source.observation)
    assert len(found["file_row"]) < 400
    run = open_run(tabb_run)
    value = np.asarray(run.value(run.domains.source.next_observation))
    own = source.reward + 0.99 * (1 - source.terminal) * value
    np.testing.assert_allclose(found["own_backup"], own, rtol=1e-5, atol=1e-6)
    predicted = found["predicted_backup"]
    assert predicted.shape == (len(source), 2)
    np.testing.assert_allclose(found["tbm"], np.abs(predicted.mean(1) - own), rtol=1e-4, atol=1e-5)
    plus = np.abs(predicted.mean(1) - own) + predicted.std(1)
    np.testing.assert_allclose(found["tbm_plus"], plus, rtol=1e-4, atol=1e-5)
    weight = soft_weight(jnp.asarray(plus), 1.0, jnp.asarray(plus.mean()), 0.1)
    np.testing.assert_allclose(found["weight"], weight, rtol=1e-4, atol=1e-5)


def test_scores_of_the_agreed_shift_by_the_formulas(files, tmp_path):
    run = trained(files, tmp_path, "tabb", *PREDICTOR)
    found = score_rows(run).columns
    own, predicted = found["own_backup"], found["predicted_backup"]
    assert predicted.shape == (len(own), 1 + 3 * 2), "the agreed one, then a linear and a network shift of three models"
    tbm = np.abs(predicted[:, 0] - own)
    np.testing.assert_allclose(found["tbm"], tbm, rtol=1e-4, atol=1e-6)
    plus = tbm + 0.2 * np.abs(predicted[:, 1:] - own[:, None]).mean(axis=1)
    np.testing.assert_allclose(found["tbm_plus"], plus, rtol=1e-4, atol=1e-6)


def test_scores_of_a_rival_are_its_columns(files, tmp_path):
    run = trained(files, tmp_path, "dara", "--rule.updates", "5", "--rule.hidden", "8")
    assert set(score_rows(run).columns) == {"file_row", "episode", "bonus"}


def test_other_backbone(files, tmp_path):
    found = score_rows(trained(files, tmp_path, "tabb@td3-bc", *PREDICTOR)).columns
    assert np.isfinite(found["tbm"]).all()
    assert found["weight"].min() >= 0.1


@pytest.mark.parametrize("data", ["source", "target"])  # HDF5 and npz
@pytest.mark.parametrize("command", ["score", "report", "audit", "select"])
def test_logged_data_are_never_written_over(command, data, tabb_run, files, tmp_path, capsys):
    mine = Path(shutil.copy(files[data], tmp_path))
    before = mine.read_bytes()
    given = {"audit": files["target"]}.get(command, str(tabb_run))
    assert main([command, given, "--out", str(mine)]) == 2
    err = capsys.readouterr().err
    assert f"{mine}: is there already and is not" in err
    assert len(err.strip().splitlines()) == 1
    assert mine.read_bytes() == before


def test_scores_are_written_over_scores(tabb_run, tmp_path, capsys):
    out = tmp_path / "scores.hdf5"
    for _ in range(2):
        assert main(["score", str(tabb_run), "--out", str(out)]) == 0
    out.write_text("a note")
    assert main(["score", str(tabb_run), "--out", str(out)]) == 2
    assert out.read_text() == "a note"


def test_what_cannot_be_scored(tabb_run, files, tmp_path, capsys):
    with pytest.raises(UsageError, match="pooled keeps no score per source row"):
        score_rows(trained(files, tmp_path / "pooled", "pooled"))
    with pytest.raises(UsageError, match="target-only draws no source rows"):
        score_rows(trained(files, tmp_path / "alone", "target-only"))
    with pytest.raises(RunError, match="not a run folder"):
        score_rows(tmp_path)
    with pytest.raises(UsageError, match="is not the source data that"):
        score_rows(tabb_run, source=[files["target"]])
    with pytest.raises(UsageError, match="is not the source data that"):  # one name is one file, not its letters
        score_rows(tabb_run, source=str(files["target"]))
    unfinished = shutil.copytree(tabb_run, tmp_path / "seed0")
    (unfinished / "result.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        score_rows(unfinished)
    capsys.readouterr()
    assert main(["score", str(tabb_run), "--out", str(tmp_path / "no" / "scores.hdf5")]) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_rewards_are_those_that_the_run_learned_from(files):
    """AntMaze's tasks take 1 off each reward before training: the fingerprint of the record is of those."""
    data = tabb.load(files["source"])
    learned = dataclasses.replace(data, reward=data.reward - 1)
    config = {"task": "antmaze-small", "origin": {"source": {"files": [files["source"]]}}}
    config["data"] = {"source": fingerprint(learned)}
    found, report = run_data(config, "source", None, "run")
    np.testing.assert_array_equal(found.reward, learned.reward)
    assert report.mean_return == log_return(data.reward, data.episode), "a return is of the rewards in the file"
    with pytest.raises(UsageError, match="is not the source data that run was trained on"):
        run_data(config | {"task": None}, "source", None, "run")


def test_a_return_of_rewards_with_an_offset_forgets_no_cut(tmp_path):
    """Episodes of 2, 3 and 1 rows; the third was cut, in the file or by the number of rows: it counts in neither."""
    steps = {name: np.zeros((6, 29), np.float32) for name in ("observation", "next_observation")}
    steps |= {"action": np.zeros((6, 8), np.float32), "terminal": np.zeros(6, np.float32)}
    steps |= {"reward": np.array([1, 1, 2, 2, 2, 9], np.float32), "episode": np.array([0, 0, 1, 1, 1, 2], np.int32)}
    rows = tabb.Transitions(**steps)
    for cut, known in (([2], (2,)), ([0], (0,)), (None, None)):
        (tmp_path / "steps.npz").unlink(missing_ok=True)
        tabb.data.save_npz(tmp_path / "steps.npz", rows, cut)
        learned = dataclasses.replace(rows, reward=rows.reward - 1)
        config = {"task": "antmaze-small", "origin": {"source": {"files": [str(tmp_path / "steps.npz")]}}}
        config["data"] = {"source": fingerprint(learned)}
        found = run_data(config, "source", None, "run")
        assert found.report.cut == known
        whole = [episode for episode in range(3) if episode not in (cut or [2])]
        returns, lengths = np.array([0.0, 3.0, 8.0]), np.array([2, 3, 1])
        expected = (returns * lengths)[whole].sum() / lengths[whole].sum()
        assert logged_return(found, tabb.get_task("antmaze-small")) == pytest.approx(expected)


def test_what_the_data_have_is_of_the_rows_that_the_run_learned_from(files):
    data = tabb.load(files["source"])
    some = data[rows_of_episodes(data.episode, 40, 3)]
    settings = {"settings": {"source_rows": 40, "rows_seed": 3}, "task": None}
    config = settings | {"origin": {"source": {"files": [files["source"]]}}, "data": {"source": fingerprint(some)}}
    found = run_data(config, "source", None, "run")
    assert len(found.transitions) == 40
    cut = cut_episodes(data.episode, some.episode)
    assert (
        found.report.mean_return == log_return(some.reward, some.episode, cut) != log_return(data.reward, data.episode)
    )
    assert found.report.cut == tuple(sorted(cut))
    with pytest.raises(UsageError, match="is not the source data that run was trained on"):
        run_data(config, "source", data[:0], "run")

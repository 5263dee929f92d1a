"""`tabb select` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tabb
from tabb.cli import main

SMALL = ["--updates", "20", "--evaluations", "2", "--progress", "none", "--jobs", "1"]
NETWORKS = [
    *("--backbone.policies", "2", "--backbone.hidden", "8", "8", "--backbone.batch-size", "32"),
    *("--backbone.discount", "0.9"),  # FQE: 44 iterations, of 0.99 459
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of pooled without a task, six target episodes of 100 steps."""
    folder = tmp_path_factory.mktemp("select")
    for name, rows, seed in (("source", 1000, 0), ("target", 600, 1)):
        draw = np.random.default_rng(seed)
        state = draw.normal(size=(rows, 3))
        ends = np.arange(1, rows + 1) % 100 == 0
        moves = state, draw.uniform(-1, 1, (rows, 2)), -np.abs(state).sum(1)
        drawn = tabb.data.inspect_arrays(*moves, timeouts=ends)  # in no order, which is doubted
        tabb.data.save_npz(folder / f"{name}.npz", drawn.transitions)
    data_options = ["--source", str(folder / "source.npz"), "--target", str(folder / "target.npz")]
    out = ["--out", str(folder / "runs")]
    assert main(["train", "pooled", "--seeds", "0", "1", *data_options, *out, *SMALL, *NETWORKS]) == 0
    return folder / "runs"


def test_the_table_names_the_best_policy_and_writes_it(runs: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["select", str(runs), "--by", "value", "--out", str(tmp_path / "best.npz"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["ranked"]) == 4
    best = told["ranked"][0]
    assert best["value"] == max(one["value"] for one in told["ranked"])
    chosen, kept = tabb.Policy.load(tmp_path / "best.npz"), tabb.Policy.load(best["policy"])
    assert np.array_equal(chosen.act(np.ones(3)), kept.act(np.ones(3)))

    assert main(["select", str(runs), "--by", "value", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["rank", "value", "interval"]
    assert f"{best['value']:.1f}" in lines[2]
    assert "the best 3 of 4 policies" in "\n".join(lines)
    assert lines[-1] == f"best: {best['policy']}"


def test_training_ends_with_what_held_out_rows_say(runs: Path, capsys: Any) -> None:
    assert main(["train", "--resume", str(runs)]) == 0
    out = capsys.readouterr().out
    assert "on 99 held-out target rows" in out
    assert f"tabb select {runs}" in out


def test_scores_of_two_environments_are_not_ranked_together(runs: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    for seed in (0, 1):
        file = copy / f"seed{seed}" / "result.json"
        result = json.loads(file.read_text())
        points = [line["update"] for line in result["held_out"]["policies"]]
        result["evaluations"] = [{"update": at, "mean": float(seed + at)} for at in points]
        file.write_text(json.dumps(result))
    assert tabb.select(copy).rank_correlation is not None
    file = copy / "seed1" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"task": "hopper-morph"}))
    assert tabb.select(copy).rank_correlation is None


def test_a_run_goes_on_as_it_was_started(runs: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["train", "--resume", str(runs), "--updates", "500"]) == 2
    assert "--updates with --resume" in capsys.readouterr().err


def test_one_run_of_several_goes_on_as_one_of_them(runs: Path, tmp_path: Path) -> None:
    """A seed of a plan that is resumed alone has a core to itself, as it had then: the same bits."""
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    shutil.rmtree(copy / "seed1")
    assert main(["train", "--resume", str(copy / "seed0"), "--progress", "none"]) == 0
    assert not (copy / "seed1").exists()
    (copy / "seed0" / "result.json").unlink()
    for file in ("policy.npz", "checkpoint.npz"):
        (copy / "seed0" / file).unlink()
    assert main(["train", "--resume", str(copy / "seed0"), "--progress", "none", "--jobs", "1"]) == 0
    one, other = (tabb.Policy.load(root / "seed0") for root in (runs, copy))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


def test_values_of_other_discounts_are_not_ranked_together(runs: Path, tmp_path: Path, capsys: Any) -> None:
    """Values at 0.95 are a fifth of those at 0.99; how near policies are to logged actions has no such unit."""
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    config = json.loads((copy / "seed1" / "config.json").read_text())
    config["settings"]["backbone"]["discount"] = 0.95
    (copy / "seed1" / "config.json").write_text(json.dumps(config))
    assert main(["select", str(copy), "--by", "value"]) == 2
    assert "discounts differ; rank them separately" in capsys.readouterr().err
    assert main(["select", str(copy), "--by", "actions"]) == 0


def test_runs_of_several_tasks_have_no_common_table(runs: Path, tmp_path: Path) -> None:
    import shutil

    from tabb.results.summary import summarise

    copy = shutil.copytree(runs, tmp_path / "runs")
    result = json.loads((copy / "seed1" / "result.json").read_text())
    (copy / "seed1" / "result.json").write_text(json.dumps(result | {"task": "hopper-morph"}))
    told = summarise(copy)
    assert "hopper-morph: 1 finished runs" in told
    assert "own environment: 1 finished runs" in told
    assert "seeds" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name one or more run folders"),
        (["{runs}", "--top", "-1"], "--top -1"),
        (["{runs}/nothing"], "holds no run"),
        (["{runs}", "--by", "best"], "--by"),
        (["{runs}", "--out", "{runs}/none/best.npz"], "cannot be written"),
    ],
)
def test_errors_are_one_line(runs: Path, arguments: list[str], told: str, capsys: Any) -> None:
    assert main(["select", *(argument.format(runs=runs) for argument in arguments)]) in (2, 4)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error


def test_an_unfinished_run_is_left_out_and_said(runs: Path, tmp_path: Path, capsys: Any) -> None:
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "seed1" / "result.json").unlink()
    assert main(["select", str(copy)]) == 0
    told = capsys.readouterr()
    assert "seed1: is not finished and was left out" in told.err
    assert "the best" not in told.out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "no target episodes were held out"),
        ({"backbone": {"name": "dt"}}, "a policy of backbone dt remembers its episode, so held-out rows cannot judge"),
        ({"online": {"target_steps": 100}}, "took steps in an environment, which are not held out"),
    ],
)
def test_the_advice_is_one_that_the_run_can_take(
    settings: dict[str, Any], told: str, runs: Path, tmp_path: Path, capsys: Any
) -> None:
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    shutil.rmtree(copy / "seed1")
    for name in ("config.json", "result.json"):
        content = json.loads((copy / "seed0" / name).read_text())
        content |= {"held_out": None} if name == "result.json" else {"settings": content["settings"] | settings}
        (copy / "seed0" / name).write_text(json.dumps(content))
    assert main(["select", str(copy)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert ("--held-out" in error) == (not settings)

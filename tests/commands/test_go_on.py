"""What first-time users met on the way back to their runs: lost policies, moved data, folders in folders, no words."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import tabb
from cart import Cart, cart
from tabb.cli import main
from tabb.commands.resume import unfinished_seeds
from tabb.commands.training_data import tell_reading
from tabb.data import write_hdf5
from tabb.errors import RunError, UsageError
from tabb.files import quoted, write_json
from tabb.running.plan import Cell, write_plan
from tabb.running.plan_progress import PlanProgress
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

TINY = [
    *("--updates", "40", "--evaluations", "1", "--episodes", "1", "--progress", "none"),
    *("--backbone.policies", "1", "--backbone.hidden", "8", "--backbone.batch-size", "16"),
]


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    """Two logs, as options."""
    write_hdf5(tmp_path / "sim.hdf5", cart(400))
    write_hdf5(tmp_path / "real.hdf5", cart(300, 1, 0.15))
    return ["--source", str(tmp_path / "sim.hdf5"), "--target", str(tmp_path / "real.hdf5")]


@pytest.mark.slow
def test_a_run_whose_policy_is_lost_writes_it_again(tmp_path: Path, logs, capsys) -> None:
    out = tmp_path / "my runs"
    assert main(["train", "target-only", *logs, *TINY, "--out", str(out)]) == 0
    assert "target-only" in capsys.readouterr().out  # the table, whatever --progress says
    run = RunFolder(out / "seed0")
    before = run.policy_file.read_bytes()
    run.policy_file.unlink()
    asked = ["export", str(run.path), "--format", "npz", "--out", str(tmp_path / "p.npz")]
    assert main(asked) == 4
    said = capsys.readouterr().err
    assert f"has no policy.npz any more; make it anew with `tabb train --resume '{run.path}'`" in said
    with pytest.raises(RunError, match="make it anew"):
        tabb.Policy.load(run.path)
    assert main(["train", "--resume", str(run.path), "--progress", "none"]) == 0
    assert run.policy_file.read_bytes() == before
    run.policy_file.unlink()
    run.checkpoint_file.unlink()
    assert main(["train", "--resume", str(out), "--progress", "none"]) == 0  # nothing is left to do
    assert main(asked) == 4
    assert "has neither policy.npz nor checkpoint.npz any more" in capsys.readouterr().err
    source, target = (tabb.load(path) for path in logs[1::2])
    settings = tabb.Settings(
        updates=40, evaluations=1, episodes=1, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=16)
    )
    with pytest.raises(RunError, match=r"is finished, and its checkpoint\.npz is gone"):
        tabb.train(tabb.TargetOnly(), source, target, settings=settings, folder=out, resume=True)


def test_runs_do_not_lie_in_runs(tmp_path: Path, logs, capsys) -> None:
    out = tmp_path / "runs"
    assert main(["train", "target-only", *logs, *TINY, "--out", str(out)]) == 0
    for inner in (out / "seed0", out / "seed0" / "more"):
        assert main(["train", "target-only", *logs, *TINY, "--out", str(inner)]) == 4
        assert "the folder of a run" in capsys.readouterr().err
        assert main(["train", "target-only", "pooled", *logs, *TINY, "--out", str(inner)]) == 4
        with pytest.raises(RunError, match="runs get folders of their own"):
            tabb.train(tabb.TargetOnly(), None, tabb.load(logs[3]), folder=inner, resume=True)
    assert [folder.name for folder in (out / "seed0").iterdir() if folder.is_dir()] == ["policies"]


def test_empty_words_are_no_paths(tmp_path: Path, logs, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["--out", ""], ["--out="], ["--start", ""]):
        assert main(["train", "target-only", *logs, *TINY, *words]) == 2
        assert f"{words[0].rstrip('=')}: is empty" in capsys.readouterr().err
    for command in (["evaluate", ""], ["select", ""], ["data", "describe", ""]):
        assert main(command) == 2
        assert "is empty; give a value" in capsys.readouterr().err
    with pytest.raises(UsageError, match="folder is empty"):
        tabb.train(tabb.TargetOnly(), None, tabb.load(logs[3]), folder="")
    assert not (tmp_path / "seed0").exists()


@pytest.mark.parametrize(
    "rules", [["target-only"], pytest.param(["target-only", "pooled"], marks=pytest.mark.slow)], ids=len
)
def test_runs_go_on_where_the_data_lie_now(tmp_path: Path, logs, capsys, rules) -> None:
    out = tmp_path / "runs"
    assert main(["train", *rules, *logs, *TINY, "--out", str(out), "--jobs", "1"]) == 0
    run = RunFolder(out / rules[0] / "seed0" if len(rules) > 1 else out / "seed0")
    before = run.policy_file.read_bytes()
    run.result_file.unlink()  # as if it had been stopped at the end
    moved = tmp_path / "other place" / "real.hdf5"
    moved.parent.mkdir()
    shutil.move(tmp_path / "real.hdf5", moved)
    capsys.readouterr()
    resume = ["train", "--resume", str(out), "--progress", "none"]
    assert main(resume) == 3
    said = capsys.readouterr().err
    assert "its target data" in said
    assert f"`tabb train --resume {out} --target FILE`" in said
    write_hdf5(tmp_path / "another.hdf5", cart(300, 2))
    assert main([*resume, "--target", str(tmp_path / "another.hdf5")]) == 2
    assert "is not the target data that" in capsys.readouterr().err
    assert main([*resume, "--target", str(moved)]) == 0
    assert run.policy_file.read_bytes() == before
    assert run.config()["origin"]["target"]["files"] == [str(moved)]
    assert main([*resume, "--updates", "3"]) == 2


def test_both_domains_that_moved_are_named_at_once(tmp_path: Path, capsys) -> None:
    source, target = tmp_path / "sim.hdf5", tmp_path / "real.hdf5"
    plain = tabb.Settings(updates=2, evaluations=0)
    cells = [
        Cell(name, name, RunSpec(rule, tabb.IQL(), files, (str(target),), None, None, 0, plain))
        for name, rule, files in (("target-only", tabb.TargetOnly(), None), ("pooled", tabb.Pooled(), (str(source),)))
    ]
    write_plan(tmp_path / "runs", cells)
    assert main(["train", "--resume", str(tmp_path / "runs")]) == 3
    said = capsys.readouterr().err
    assert f"its source data {source} and target data {target} are not there any more" in said
    assert f"`tabb train --resume {tmp_path / 'runs'} --source FILE --target FILE`" in said


def test_runs_without_the_domain_that_moved_say_so(tmp_path: Path, logs, capsys) -> None:
    out = tmp_path / "runs"
    assert main(["train", "target-only", *logs, *TINY, "--out", str(out)]) == 0
    RunFolder(out / "seed0").result_file.unlink()
    assert main(["train", "--resume", str(out), "--source", logs[1]]) == 2
    assert "the runs read no source data" in capsys.readouterr().err


def test_lines_of_a_plan_tell_of_runs_that_nothing_evaluates(tmp_path: Path, capsys) -> None:
    settings = tabb.Settings(updates=100, evaluations=2)
    cells = []
    for name, task in (("own", None), ("known", "hopper-morph"), ("imitating", None)):
        spec = RunSpec(tabb.TargetOnly(), tabb.IQL(), None, (str(tmp_path / "real.hdf5"),), task, None, 0, settings)
        cells.append(Cell(name, name, spec))
        (tmp_path / name).mkdir()
    progress = PlanProgress(tmp_path, cells, "lines")
    for update in (2, 5, 6, 50, 100):
        for cell in cells:
            metrics = RunFolder(tmp_path / cell.folder).metrics_file
            loss = "policy_loss" if cell.label == "imitating" else "critic_loss"
            lines = [{"kind": "training", "update": update, "rate": 10.0, loss: 0.25}]
            scored = {"kind": "evaluation", "update": update, "mean": -0.0, "returns": [1 / 3] * 1000}
            lines += [scored] if update in (50, 100) else []
            with open(metrics, "a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        progress.update(cells)
    said = capsys.readouterr().err.splitlines()
    for name in ("own", "imitating"):
        assert [line for line in said if line.startswith(name)] == [
            f"{name}: preparing ...",
            *(f"{name}: {update}/100 updates, loss 0.25, 10 updates/s" for update in (5, 50, 100)),
        ]
    assert [line for line in said if line.startswith("known")] == [
        "known: preparing ...",
        *(f"known: {update}/100 updates, score 0.0, 10 updates/s" for update in (50, 100)),
    ]


def test_a_run_whose_folder_was_renamed(tmp_path: Path, logs, capsys) -> None:
    """Nothing is trained beside it: a finished run stays as it is, another is called by its seed first."""
    assert main(["train", "target-only", *logs, *TINY, "--held-out", "0", "--out", str(tmp_path)]) == 0
    copy = (tmp_path / "seed0").rename(tmp_path / "copy")
    resume = ["train", "--resume", str(copy), "--progress", "none"]
    assert main(resume) == 0
    (copy / "result.json").unlink()
    capsys.readouterr()
    assert main(resume) != 0
    assert "copy: is a run of seed 0; name its folder seed0 to go on with it" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["copy"]


def test_a_run_below_a_plan_of_others_goes_on_by_itself(tmp_path: Path, logs, capsys) -> None:
    """It was put there later, and the plan knows nothing of it."""
    out = tmp_path / "mine"
    assert main(["train", "target-only", *logs, *TINY, "--held-out", "0", "--out", str(out)]) == 0
    run = RunFolder(out / "seed0")
    run.result_file.unlink()
    spec = RunSpec.from_config(run.config(), 0)
    write_plan(tmp_path, [Cell("other", "other/seed0", spec)])
    plan = (tmp_path / "plan.json").read_bytes()
    jobs = ["train", "--resume", str(out), "--progress", "none", "--jobs"]
    assert main([*jobs, "2"]) == 2
    assert "mine: was not started as a plan" in capsys.readouterr().err
    assert main([*jobs, "1"]) == 0
    assert run.finished
    assert (tmp_path / "plan.json").read_bytes() == plan
    assert not (tmp_path / "other").exists()
    # Another program's file of this name is no plan.
    (tmp_path / "plan.json").write_text('{"steps": []}')
    run.result_file.unlink()
    assert main([*jobs, "1"]) == 0
    assert run.finished


def test_an_environment_that_code_made_is_not_left_out(tmp_path: Path, logs, capsys) -> None:
    """The command would go on without evaluations; Python goes on with the same function."""
    source, target = logs[1::2]
    learner = tabb.Learner(
        tabb.TargetOnly(), tabb.IQL(policies=1, hidden=(8,), batch_size=16), updates=40, evaluations=1, episodes=1
    )
    learner.fit(source, target, folder=tmp_path / "out", env_factory=Cart)
    run = RunFolder(tmp_path / "out" / "seed0")
    run.result_file.unlink()
    assert main(["train", "--resume", str(tmp_path / "out"), "--progress", "none"]) == 2
    assert "out: its environment was made by Python code, which tabb does not keep" in capsys.readouterr().err
    learner.fit(source, target, folder=tmp_path / "out", env_factory=Cart, resume=True)
    assert run.finished


def test_files_that_runs_would_replace_at_their_end_are_refused_before(tmp_path: Path, logs, capsys) -> None:
    train = ["train", "target-only", *logs, *TINY, "--seeds", "0", "1", "--out", str(tmp_path / "out"), "--jobs"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.png").write_bytes(b"my holidays")
    assert main([*train, "1"]) == 2
    assert "comparison.png: is there already" in capsys.readouterr().err
    (tmp_path / "out" / "comparison.png").unlink()
    (tmp_path / "out" / "failed.json").write_text('{"mine": 1}')
    assert main([*train, "2"]) == 4
    assert "out: holds failed.json but no plan of tabb" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["failed.json"]


@pytest.mark.parametrize("place", [["--env", "cart:Cart-v0"], ["--task", "none"]])
def test_an_engine_is_of_tasks(tmp_path: Path, capsys, place) -> None:
    """Neither is one asked for: data say which they come from, and their own environment has no choice of it."""
    write_hdf5(tmp_path / "log.hdf5", cart(400), provenance={"engine": "native"})
    words = ["train", "target-only", "--target", tmp_path / "log.hdf5", *TINY, *place, "--out", tmp_path / "runs"]
    words = [str(word) for word in words]
    assert main([*words, "--engine", "native"]) == 2
    assert "--engine native: is of the robots of tasks, and no task is named" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert main(words) == 0


def test_a_folder_that_several_calls_filled_is_finished_whole(tmp_path: Path, logs, capsys) -> None:
    """One call was to train seeds 0 and 1, a later one seed 2, and one seed 3 on rows of its own."""
    out = tmp_path / "runs"
    assert main(["train", "target-only", *logs, *TINY, "--held-out", "0", "--out", str(out)]) == 0
    done = RunFolder(out / "seed0")
    before, config = done.result_file.read_bytes(), done.config()
    own_rows = config["settings"] | {"target_rows": 200, "rows_seed": 3}
    for seed, changes in ((0, {"seeds": [0, 1]}), (2, {}), (3, {"settings": own_rows})):
        (out / f"seed{seed}").mkdir(exist_ok=True)
        write_json(out / f"seed{seed}" / "config.json", config | {"seed": seed, "seeds": [seed]} | changes)
    (out / "seed4").mkdir()  # killed before it had a config
    left = unfinished_seeds(out, out, [RunFolder(out / f"seed{seed}").config() for seed in (0, 2, 3)], alone=False)
    assert [(spec.settings.rows_seed, seeds) for spec, seeds in left] == [(0, [1, 2]), (3, [3])]
    shutil.rmtree(out / "seed3")
    assert main(["train", "--resume", str(out), "--progress", "none"]) == 0
    assert [RunFolder(out / f"seed{seed}").finished for seed in range(3)] == [True] * 3
    assert done.result_file.read_bytes() == before, "a finished run is left as it is"


def test_paths_in_suggested_commands_are_words_of_a_shell(tmp_path: Path) -> None:
    assert quoted(Path("runs/seed0")) == "runs/seed0"
    assert quoted(Path("my runs/c'est")) == """'my runs/c'"'"'est'"""
    run = RunFolder(tmp_path / "my runs" / "seed0")
    run.start({})
    with pytest.raises(RunError, match=f"`tabb train --resume '{run.path}'`"):
        run.check_new()


def test_no_number_is_a_negative_zero() -> None:
    package = Path(tabb.__file__).parent
    wanted = ("score", "mean", "return", "value", "low", "high", "gain", "difference", "correlation")
    signs = [np.float64(-0.04), np.float32(-0.04), -0.04]
    assert {f"{number:z.1f}" for number in signs} == {"0.0"}
    for file in package.rglob("*.py"):
        for expression in re.findall(r"\{([^{}\n]*?):[+,]*\d*\.\df\}", file.read_text(encoding="utf-8")):
            name = re.findall(r"\w+", expression)[-1] if re.findall(r"\w+", expression) else ""
            assert name not in wanted, f"{file.name}: {{{expression}}} may show -0.0; write :z.1f"


def test_large_files_are_announced_before_they_are_read(tmp_path: Path, capsys, monkeypatch) -> None:
    small, large = tmp_path / "small.hdf5", tmp_path / "large.hdf5"
    small.write_bytes(b"x")
    with open(large, "wb") as file:
        file.truncate(30_000_000)
    monkeypatch.setattr("tabb.commands.training_data.free_memory", lambda: 1_000_000_000)
    tell_reading({"source": [str(large)], "target": [str(small)]})
    assert capsys.readouterr().err == "source: reading 30 MB ...\n"


def test_a_store_is_proposed_for_data_that_may_not_fit(tmp_path: Path, capsys, monkeypatch) -> None:
    large = tmp_path / "large.hdf5"
    with open(large, "wb") as file:
        file.truncate(1_200_000)
    monkeypatch.setattr("tabb.commands.training_data.free_memory", lambda: 2_300_000)
    tell_reading({"source": [str(large)]})
    assert "0.0 GB of data for 0.0 GB of free memory; --store keeps the rows in a file" in capsys.readouterr().err
    for free, store in ((2_300_000, True), (2_500_000, False), (None, False)):
        monkeypatch.setattr("tabb.commands.training_data.free_memory", lambda free=free: free)
        tell_reading({"source": [str(large)]}, store)
    assert not capsys.readouterr().err

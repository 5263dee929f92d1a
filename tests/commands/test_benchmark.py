"""`tabb benchmark`: which runs it plans, what it says of them, going on, and its errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tabb.cli import main
from tabb.commands.imitation_options import imitating, imitation_words
from tabb.commands.methods import methods_of
from tabb.commands.train_options import changed_learner
from tabb.environments.tasks import ALL_TASKS, TASKS, get_task
from tabb.errors import RunError, UsageError
from tabb.experiments.benchmark import Comparison, Place, gather, places_of, plain_method, preset_for
from tabb.models.imitation import BEST, LOGGED
from tabb.plain import plain
from tabb.registry import learners_of
from tabb.running.plan import write_plan
from tabb.training.folder import RunFolder

SMALL = [
    *("benchmark", "otdf", "--tasks", "hopper-gravity-0.5", "--sources", "bundled", "--targets", "bundled"),
    *("--updates", "20", "--methods", "target-only", "pooled", "--progress", "none"),
]
HOPPER = Place("hopper-morph", "medium", "medium")


def config_of(learner: str, *options: str, preset: str | None = None) -> dict:
    """The rule and the settings of a run with these options, as `config.json` has them."""
    rule, _, settings = changed_learner(learner, options, preset=preset)
    return {"rule": plain(rule), "settings": plain(settings.on(rule))}


def test_places_and_cells():
    places = places_of("otdf", ["hopper"], [], ["medium", "expert"], ["medium"])
    assert len(places) == 6  # three shifts, two sources
    assert places_of("otdf", [], ["ant-morph"], ["medium"], ["expert"]) == (Place("ant-morph", "medium", "expert"),)
    comparison = Comparison(places, methods_of(["tabb", "target-only"]), (0, 1), 100)
    # target-only draws no source rows: one run for both source qualities.
    assert len({folder for *_, folder in comparison.runs()}) == 6 * 2 + 3 * 2
    assert len(list(comparison.runs())) == 6 * 2 * 2


def test_a_plan_names_files_and_begins_with_one_seed_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    bundled = Place("hopper-gravity-0.5", "bundled", "bundled")
    cells = Comparison((bundled,), methods_of(["pooled", "target-only"]), (0, 1), 7).plan()
    assert [cell.folder for cell in cells[:2]] == [
        "hopper-gravity-0.5/bundled-bundled/pooled/seed0",
        "hopper-gravity-0.5/none-bundled/target-only/seed0",
    ]
    assert [cell.spec.seed for cell in cells] == [0, 0, 1, 1]
    pooled, alone = cells[0].spec, cells[1].spec
    assert alone.source is None
    assert pooled.target == alone.target
    assert all(Path(file).is_absolute() and Path(file).exists() for file in (*pooled.source, *pooled.target))
    assert (pooled.task, pooled.env, pooled.settings.updates) == ("hopper-gravity-0.5", None, 7)


def test_authors_constants():
    assert preset_for("otdf", TASKS["hopper-kinematic"]) == "kinematic"
    assert preset_for("igdf", TASKS["hopper-kinematic"]) == "hopper"
    assert preset_for("igdf", TASKS["ant-kinematic"]) is None
    assert preset_for("tabb", TASKS["ant-kinematic"]) is None
    for presets, keep in ((True, 0.25), (False, 0.75)):
        comparison = Comparison((HOPPER,), methods_of(["igdf"]), (0,), 5, presets=presets)
        assert comparison.learner(HOPPER, comparison.methods[0], 0).rule.keep == keep


def test_methods_with_options() -> None:
    words = ("tabb", "sharp=tabb --rule.temperature 0.3", "target-only=target-only --backbone.temperature=0.5")
    methods = methods_of((*words, "igdf2=igdf --preset walker2d", "own=igdf --rule.keep 0.75"))
    assert [method.name for method in methods] == ["tabb", "sharp", "target-only", "igdf2", "own"]
    assert methods[2].words == "target-only --backbone.temperature=0.5"
    places = (HOPPER, HOPPER._replace(source="expert"))
    comparison = Comparison(places, methods, (0,), 9)
    runs = {str(folder): comparison.learner(place, method, seed) for place, method, seed, folder in comparison.runs()}
    # target-only draws no source rows, whatever its options: one run for both source qualities.
    assert len(runs) == 2 + 2 + 1 + 2 + 2
    assert runs["hopper-morph/medium-medium/sharp/seed0"].rule.temperature == 0.3
    assert runs["hopper-morph/none-medium/target-only/seed0"].backbone.temperature == 0.5
    # A preset that is named stands in for the robot's, and an option is heard also where it names the default.
    walker = learners_of(["igdf"], "walker2d")[0].rule
    assert runs["hopper-morph/medium-medium/igdf2/seed0"].rule == walker
    assert runs["hopper-morph/medium-medium/own/seed0"].rule.keep == 0.75
    assert comparison.learners()["sharp"] == "tabb"
    assert "- `sharp`: `tabb --rule.temperature 0.3`" in comparison.changed_methods()
    assert Comparison(places, methods[:1], (0,), 9).changed_methods() == []


def test_a_method_may_follow_the_seed_and_the_suite() -> None:
    (few,) = methods_of(["few=tabb --target-rows 50 --rows-seed {seed}"])
    made = few.make(get_task("hopper-morph"), 7, True)
    assert (made.settings.target_rows, made.settings.rows_seed) == (50, 7)
    assert few.make(get_task("hopper-morph"), 8, True).settings.rows_seed == 8
    (sharp,) = methods_of(["sharp=tabb --rule.temperature 0.3"])
    maze = next(task for task in ALL_TASKS.values() if "antmaze" in task.suites)
    for task in (get_task("hopper-morph"), maze):
        usual = plain_method("tabb").make(task, 0, True)
        assert sharp.make(task, 0, True).backbone == usual.backbone
    assert usual.backbone.expectile == 0.9


def test_methods_may_imitate_differently_or_all_alike() -> None:
    (held,) = methods_of(["held=tabb --imitation.matching 0.1"])
    assert held.make(get_task("hopper-morph"), 0, True).settings.imitation == dataclasses.replace(BEST, matching=0.1)
    words, others = imitation_words(["otdf", "--imitation.noise", "0.1", "--seeds", "0", "--imitation.copies=2"])
    assert (words, others) == (["--imitation.noise", "0.1", "--imitation.copies=2"], ["otdf", "--seeds", "0"])
    for method in imitating(methods_of(["tabb", "pooled@cql"]), words):
        made = method.make(get_task("hopper-morph"), 0, True)
        own = BEST if method.name == "tabb" else LOGGED  # CQL imitates nothing; each method changes its own
        assert made.settings.imitation == dataclasses.replace(own, noise=0.1, copies=2)
    (cannot,) = imitating(methods_of(["pooled@cql"]), ["--imitation.best", "1"])
    with pytest.raises(UsageError, match=r"^method pooled@cql: imitation rows=logged best=1\.0: the policy of"):
        cannot.make(get_task("hopper-morph"), 0, True)
    assert Comparison((HOPPER,), (held,), (0,), 9, other_options="--imitation.noise 0.1").length() == (
        "9 updates, --imitation.noise 0.1"
    )


def test_evaluations_and_episodes_are_those_of_every_cell(capsys) -> None:
    methods = methods_of(["pooled", "sharp=tabb --rule.temperature 0.3"])
    comparison = Comparison((HOPPER,), methods, (0,), 9, evaluations=3, episodes=2)
    for method in methods:
        settings = comparison.learner(HOPPER, method, 0).settings
        assert (settings.evaluations, settings.episodes) == (3, 2)
    assert comparison.length() == "9 updates, --evaluations 3 --episodes 2"
    usual = Comparison((HOPPER,), methods, (0,), 9).learner(HOPPER, methods[0], 0).settings
    assert (usual.evaluations, usual.episodes) == (20, 10)
    for command in ("benchmark", "ablate"):
        for option in ("--evaluations", "--episodes"):
            assert main([command, "otdf", option, "0"]) == 2
            assert f"{option} 0: must be at least 1" in capsys.readouterr().err


def test_rows_are_limited_in_every_cell_and_part_of_what_is_compared(tmp_path: Path, capsys) -> None:
    command = ["benchmark", "otdf", "--tasks", "hopper-morph", "--methods", "pooled", "--seeds", "0", "--updates", "9"]
    folder = RunFolder(tmp_path / "hopper-morph" / "medium-medium" / "pooled" / "seed0")
    limits = ["--source-rows", "200", "--target-rows", "50"]
    comparison = Comparison((HOPPER,), methods_of(["pooled"]), (0,), 9, 200, 50)
    settings = comparison.learner(HOPPER, comparison.methods[0], 0).settings
    assert (settings.source_rows, settings.target_rows) == (200, 50)
    assert comparison.length() == "9 updates, " + " ".join(limits)
    folder.start(config_of("pooled", "--updates", "9", *limits) | {"data": {}})
    for given, says in (
        (limits, "no run is finished"),
        ([], "(settings source_rows)"),
        (limits[:2], "(settings target_"),
    ):
        assert main([*command, *given, "--report", "--out", str(tmp_path)]) != 0
        assert says in capsys.readouterr().err


def test_runs_of_exchanged_data_are_not_compared(tmp_path: Path, capsys) -> None:
    command = ["benchmark", "otdf", "--tasks", "hopper-morph", "--methods", "pooled", "target-only", "--seeds", "0"]
    for method, source in (("pooled", "medium"), ("target-only", "none")):
        folder = RunFolder(tmp_path / "hopper-morph" / f"{source}-medium" / method / "seed0")
        data = {"target": "abc" if method == "pooled" else "xyz"} | ({"source": "s"} if method == "pooled" else {})
        folder.start(config_of(method, "--updates", "9") | {"data": data})
    assert main([*command, "--updates", "9", "--report", "--out", str(tmp_path)]) == 4
    said = capsys.readouterr().err
    assert "none-medium/target-only/seed0: learned from other target data than " in said
    assert "medium-medium/pooled/seed0: the medium file is another one now" in said


def test_cells_of_other_options_are_refused(tmp_path: Path, capsys) -> None:
    """A preset's score must not stand for that without, and an unfinished run is not gone on with for longer."""
    command = ["benchmark", "otdf", "--tasks", "hopper-morph", "--methods", "otdf", "--seeds", "0", "--report"]
    folder = RunFolder(tmp_path / "hopper-morph" / "medium-medium" / "otdf" / "seed0")
    folder.start(config_of("otdf", "--updates", "9", "--rule.keep", "0.5", preset="morph") | {"data": {}})
    for updates, says in (("9", "(rule keep)"), ("8", "is a run of 9 updates, not 8")):
        assert main([*command, "--updates", updates, "--out", str(tmp_path)]) == 4
        assert says in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"^'/data/sim.hdf5' is no quality"):
        places_of("otdf", [], ["ant-morph"], ["/data/sim.hdf5"], ["medium"])


@pytest.mark.slow
def test_a_small_benchmark_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    out = tmp_path / "out"
    assert main([*SMALL, "--seeds", "0", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 cells" in text
    for name in ("report.md", "scores.csv", "verdicts.json", "profiles.png", "intervals.png"):
        assert (out / name).stat().st_size > 50, name
    assert (out / "report.md").read_text() in text
    assert set(json.loads((out / "verdicts.json").read_text())) == {"target-only", "pooled"}

    # A second seed is two more runs; the finished ones stay as they are.
    first = out / "hopper-gravity-0.5" / "none-bundled" / "target-only" / "seed0" / "result.json"
    before = first.stat().st_mtime_ns
    assert main([*SMALL, "--seeds", "0", "1", "--out", str(out)]) == 0
    assert "4 of 4 cells" in capsys.readouterr().out
    assert first.stat().st_mtime_ns == before

    assert main([*SMALL[:-1], "lines", "--seeds", "0", "--out", str(out), "--updates", "21"]) == 4
    assert "is a run of 20 updates, not 21" in capsys.readouterr().err
    assert main([*SMALL, "--seeds", "7", "--out", str(out), "--report"]) == 2
    assert "no run is finished" in capsys.readouterr().err


def test_a_benchmark_and_tabb_train_leave_each_others_plans_alone(tmp_path: Path, capsys) -> None:
    spec = Comparison((Place("hopper-gravity-0.5", "bundled", "bundled"),), methods_of(["pooled"]), (0,), 7).plan()[0]
    trained, compared = tmp_path / "trained", tmp_path / "compared"
    write_plan(trained, [dataclasses.replace(spec, folder="pooled/seed0")])
    write_plan(compared, [spec])
    for root, words, says in (
        (trained, SMALL, "already holds the runs of `tabb train`"),
        (trained, ["ablate", *SMALL[1:10], "--progress", "none"], "already holds the runs of `tabb train`"),
        (compared, ["train", "target-only"], "already holds the runs of `tabb benchmark` or `tabb ablate`"),
        (compared, ["train", "target-only", "pooled"], "already holds the runs of `tabb benchmark` or `tabb ablate`"),
    ):
        before = (root / "plan.json").read_bytes()
        assert main([*words, "--out", str(root)]) == 4
        told = capsys.readouterr().err
        assert says in told
        assert told.count("\n") == 1
        assert (root / "plan.json").read_bytes() == before
        assert [file.name for file in root.iterdir()] == ["plan.json"]


def test_results_of_another_length_are_refused(tmp_path: Path) -> None:
    comparison = Comparison((HOPPER,), methods_of(["tabb"]), (0,), 5)
    ((*_, path),) = comparison.runs()
    folder = tmp_path / path
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"updates": 6, "score": 1.0}))
    with pytest.raises(RunError, match="is a run of 6 updates, not 5"):
        gather(comparison, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["d4rl"], 2, "unknown suite 'd4rl': use one of odrl, otdf"),
        (["otdf", "--tasks", "hopper-friction-2.0"], 2, "is no task of suite otdf"),
        (["otdf", "--robots", "swimmer"], 2, "has no robot 'swimmer': use one of hopper, "),
        (["otdf", "--methods", "magic"], 2, "unknown rule 'magic'"),
        (["otdf", "--source-rows", "0"], 2, "--source-rows 0: must be at least 1"),
        (["otdf", "--methods", "tabb", "tabb@iql"], 2, "named twice"),
        (["otdf", "--methods", "sharp=magic"], 2, "unknown rule 'magic'"),
        (["otdf", "--methods", "tabb --rule.temperature 3"], 2, "a learner with options has a name: sharp='tabb"),
        (["otdf", "--methods", "tabb --rule.temperature=3"], 2, "a learner with options has a name: sharp='tabb"),
        (["otdf", "--methods", "sharp = tabb"], 2, "method 'sharp ': a name is of letters, digits,"),
        (["otdf", "--methods", "my own=tabb --rule.temperature 3"], 2, "method 'my own': a name is of let"),
        (["otdf", "--methods", "sharp="], 2, "method sharp: give a learner, then its options: sharp='tabb --rule"),
        (["otdf", "--methods", "a/b=tabb"], 2, "method 'a/b': a name is of letters"),
        (["otdf", "--methods", "tabb=pooled"], 2, "method tabb: is the name of something else than pooled"),
        (["otdf", "--methods", "bosa=bosa@iql"], 2, "method bosa: is the name of something else than bosa@iql"),
        (["otdf", "--methods", "a=tabb --seeds 3"], 2, "method a: --seeds cannot differ between methods"),
        (["otdf", "--methods", "a=tabb --rule.temprature 3"], 2, "method a: unknown option --rule.temprature"),
        (["otdf", "--methods", "a=tabb --rule.temperature -3"], 2, "method a: temperature=-3.0"),
        (["otdf", "--methods", "a=tabb 'x"], 2, "cannot be read (No closing quotation)"),
        (["otdf", "--methods", "a=tabb", "a=pooled"], 2, "a a: a method is named twice"),
        (["otdf", "--source-rows", "9", "--methods", "a=tabb --source-rows 3"], 2, "is given for all methods already"),
        (["otdf", "--methods", "a=tabb@bcq"], 2, "takes only rules that say which rows are drawn"),
        (["otdf", "--methods", "tabb@bcq"], 2, "takes only rules that say which rows are drawn"),
        (
            ["otdf", "--methods", "a=tabb --backbone.value-weight 1"],
            2,
            "method a: --backbone.value-weight: changes",
        ),
        (["otdf", "--imitation.bst", "1"], 2, "unknown option --imitation.bst; perhaps you meant --imitation.best"),
        (["otdf", "--imitation.best"], 2, "--imitation.best: needs 1 value"),
        (
            ["otdf", "--imitation.copies", "3"],
            2,
            "--imitation.copies: changes nothing in any method; it counts with --i",
        ),
        (["otdf", "--methods", "a=tabb@cql --imitation.best 0.5"], 2, "method a: imitation rows=logged best=0.5: the"),
        (["otdf", "--methods", "a=tabb --imitation.best 0", "--imitation.best", "1"], 2, "is given for all methods"),
        (["otdf", "--updates", "0"], 2, "--updates 0"),
        (["otdf", "--seeds", "0", "0"], 2, "seeds="),
        (["otdf", "--budget", "huge"], 2, "--budget"),
        (["otdf", "--robots", "hopper"], 3, "TABB_DATA is not set"),
        (["otdf", "--report"], 2, "no run is finished"),
        ([], 2, "give SUITE (otdf, odrl, adroit or antmaze); see"),
    ],
)
def test_one_line_errors(arguments, code, says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    found = main(["benchmark", *arguments])
    err = capsys.readouterr().err
    assert err.startswith("tabb: error: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err
    assert found == code
    assert not Path("runs").exists()

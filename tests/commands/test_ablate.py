"""`tabb ablate`: what each variant changes, the table by hand, and a small ablation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tabb.cli import main
from tabb.commands.ablate import _sure
from tabb.commands.train_options import changed_learner
from tabb.environments.tasks import get_task
from tabb.experiments.ablations import (
    VARIANTS,
    as_markdown,
    borne_out,
    chosen,
    difference,
    draw_differences,
    summary,
)
from tabb.experiments.benchmark import Comparison, Place
from tabb.plain import plain
from tabb.results.train_command import changed_options, setting_options
from tabb.training.config import Settings, imitation_of
from tabb.training.folder import RunFolder

HOPPER, ANT = Place("hopper-morph", "medium", "medium"), Place("ant-morph", "medium", "medium")
SMALL = [
    *("ablate", "otdf", "--tasks", "hopper-gravity-0.5", "--sources", "bundled", "--targets", "bundled"),
    *("--updates", "20", "--progress", "none", "--variants", "target-only", "target-only-1000"),
]


def parsed(name: str):
    """What a variant trains with, which is what `tabb train` makes of its words."""
    made = VARIANTS[name].method().make(get_task(HOPPER.task), 7, False)
    made = made._replace(rule=made.rule.on(made.backbone))
    imitation = imitation_of(made.settings, made.rule, made.backbone)
    made = made._replace(settings=dataclasses.replace(made.settings, imitation=imitation))
    learner, *options = VARIANTS[name].words.replace("{seed}", "7").split()
    rule, backbone, settings = changed_learner(learner, options)
    imitation = imitation_of(settings, rule, backbone)
    assert made == (rule, backbone, dataclasses.replace(settings, backbone=None, imitation=imitation))
    made.backbone.check_rule(made.rule)
    return made


def changes(name: str, other: str) -> list[str]:
    """Options in which two variants differ."""
    one, two = parsed(name), parsed(other)
    words = ["--rule"] if type(one.rule) is not type(two.rule) else [*changed_options("rule", one.rule, two.rule)]
    words += changed_options("backbone", one.backbone, two.backbone)
    words += setting_options(one.settings, two.settings)
    return [word for word in words if word.startswith("--") and not word.startswith("--rows-seed")]


@pytest.mark.parametrize(
    "name", [name for name in VARIANTS if "only" not in name and name not in ("default", "pooled")]
)
def test_a_variant_changes_one_thing(name: str) -> None:
    assert len(changes(name, VARIANTS[name].against)) == 1


def test_variants_are_what_they_are_called() -> None:
    assert parsed("similarity").rule.name == "similarity"
    assert [parsed(f"noise-{noise}").rule.noise for noise in ("0.1", "0.3", "1")] == [0.1, 0.3, 1.0]
    assert not parsed("no-source-head").rule.predictor.source_head
    assert (parsed("one-head").rule.predictor.heads, parsed("default").rule.predictor.heads) == (1, 5)
    assert [parsed(f"c-{c}").rule.temperature for c in ("0.3", "3", "inf")] == [0.3, 3.0, float("inf")]
    for name, rows in (("target-1000", 1000), ("target-only-2500", 2500)):
        assert (parsed(name).settings.target_rows, parsed(name).settings.rows_seed) == (rows, 7)
    assert parsed("source-10000").settings.source_rows == 10_000
    assert [parsed(name).backbone.extraction for name in ("climb", "target-only-climb", "default")] == [
        *("improvement", "improvement", "imitation")
    ]
    assert parsed("climb-c-inf").rule.temperature == float("inf")
    assert parsed("climb-similarity").rule.name == "similarity"
    sharper = [name for name in VARIANTS if parsed(name).backbone.temperature == 3.0]
    assert sharper == ["sharp", *(f"sharp-{name}" for name in ("imitate", "pooled", "source-only", "target-only"))]
    assert all(VARIANTS[name].against == name.removeprefix("sharp-") for name in sharper[1:])
    assert all(VARIANTS[variant.against] for variant in VARIANTS.values())


def test_runs_are_those_of_a_comparison() -> None:
    variants = chosen(["source-10000", "target-only"])
    comparison = Comparison((HOPPER,), tuple(variant.method() for variant in variants), (3,), 9)
    assert comparison.names == ["default", "target-only", "source-10000"]
    assert "- `source-10000`: `tabb --source-rows 10000 --rows-seed {seed}`" in comparison.changed_methods()
    runs = {str(folder): comparison.learner(place, method, seed) for place, method, seed, folder in comparison.runs()}
    limited = runs["hopper-morph/medium-medium/source-10000/seed3"].settings
    assert (limited.source_rows, limited.rows_seed, limited.updates) == (10_000, 3, 9)
    assert runs["hopper-morph/medium-medium/default/seed3"].settings == Settings(updates=9)
    assert "hopper-morph/none-medium/target-only/seed3" in runs


TABLE = {
    HOPPER: {"default": {0: 10.0, 1: 12.0}, "latent": {0: 9.0, 1: 10.0, 2: 50.0}, "latent-direct": {0: 8.0}},
    ANT: {"default": {0: 20.0}, "latent": {0: 26.0}, "c-3": {1: 1.0}},
}


def test_differences_by_hand() -> None:
    # Pairs -1, -2, 6: mean 1, standard deviation √19; t(2 degrees, 97.5%) = 4.3027
    found = difference(TABLE, "latent", "default")
    reach = 4.302653 * 19**0.5 / 3**0.5
    assert found == pytest.approx((1.0, 1 - reach, 1 + reach, 3), rel=1e-6)
    assert difference(TABLE, "latent-direct", "default") == (-2.0, None, None, 1)
    assert difference(TABLE, "c-3", "default") is None


def test_a_run_that_counts_for_several_places_is_one_pair() -> None:
    other = Place(HOPPER.task, HOPPER.source, "expert")
    table = {
        HOPPER: {"default": {0: 10.0}, "source-only": {0: 4.0}, "target-only": {0: 5.0}},
        other: {"default": {0: 20.0}, "source-only": {0: 4.0}, "target-only": {0: 9.0}},
    }
    assert difference(table, "source-only", "default") == (-11.0, None, None, 1)  # the mean of -6 and -16
    assert difference(table, "target-only", "default")[::3] == (-8.0, 2)


def test_table_by_hand() -> None:
    found = summary(TABLE, chosen(["latent", "latent-direct", "c-3"]))
    lines = as_markdown(found, [str(HOPPER), str(ANT)]).splitlines()
    assert lines[0] == "| variant | hopper-morph medium to medium | ant-morph medium to medium | less default | |"
    assert lines[2] == "| `default` | 11.0 ± 1.4 (2) | 20.0 (1) | - | TABB with its defaults |"
    assert lines[3].startswith("| `latent` | 23.0 ± 23.4 (3) | 26.0 (1) | +1.0 [-9.8, 11.8] (3) | ")
    assert lines[4].startswith("| `latent-direct` | 8.0 (1) | - | -2.0 (1) | ")
    assert lines[4].endswith("; less latent: -1.0 (1) |")
    assert lines[5].startswith("| `c-3` | - | 1.0 (1) | - | ")
    assert {line.count("|") for line in lines} == {6}


def test_of_many_differences_some_leave_zero_out_by_chance(tmp_path: Path) -> None:
    """Means of four pairs of standard error 1: t-tests of three degrees of freedom with p = 0.040, 0.0049 and 0.39."""
    reach = 3.182446
    less = {
        name: {"value": value, "low": value - reach, "high": value + reach, "pairs": 4}
        for name, value in (("a", -3.5), ("b", 7.5), ("c", 1.0))
    }
    less["d"] = {"value": 99.0, "low": None, "high": None, "pairs": 1}
    assert [name for name, of in less.items() if of["low"] and of["low"] * of["high"] > 0] == ["a", "b"]
    assert borne_out(less) == {"b"}  # 0.0049 < 0.05 / 3, but 0.040 > 0.05 / 2
    assert borne_out({"a": less["a"]}) == {"a"}
    assert borne_out({"same": {"value": 0.0, "low": 0.0, "high": 0.0, "pairs": 3}}) == set()
    assert borne_out({"same": {"value": 2.0, "low": 2.0, "high": 2.0, "pairs": 3}}) == {"same"}
    compared = {name: {"less": {"default": of}} for name, of in less.items()} | {"default": {}}
    assert _sure(compared) == "At 5% over all 3 (Holm), only `b` differs from the default."
    assert _sure({"d": compared["d"]}) == "None has two pairs, so none is tested."
    draw_differences(less, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_run_with_other_options_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after a change of the table, or of a default: it must not be shown under the new name."""
    command = ["ablate", "otdf", "--tasks", "hopper-morph", "--seeds", "3", "--updates", "9", "--report"]
    place = tmp_path / "hopper-morph" / "medium-medium" / "c-3" / "seed3"
    for options, code, says in (
        ("tabb --rule.temperature 2", 4, "other options than c-3 has now (rule temperature)"),
        ("", 0, "12.0 (1)"),
    ):
        learner, *words = [*(options or VARIANTS["c-3"].words).split(), "--updates", "9"]
        rule, backbone, settings = changed_learner(learner, words)
        settings = dataclasses.replace(settings, backbone=backbone).on(rule)
        for file in (RunFolder(place).config_file, RunFolder(place).result_file):
            file.unlink(missing_ok=True)
        RunFolder(place).start({"rule": plain(rule), "settings": plain(settings)})
        RunFolder(place).result_file.write_text(json.dumps({"updates": 9, "score": 12.0}))
        assert main([*command, "--out", str(tmp_path), "--variants", "c-3"]) == code
        assert says in "".join(capsys.readouterr())


@pytest.mark.slow
def test_a_small_ablation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    out = tmp_path / "out"
    assert main([*SMALL, "--seeds", "0", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "3 of 3 cells" in text
    for name in ("report.md", "scores.csv", "ablations.json", "ablations.png"):
        assert (out / name).stat().st_size > 50, name
    assert (out / "report.md").read_text() in text
    found = json.loads((out / "ablations.json").read_text())
    assert found["target-only"]["less"]["default"]["pairs"] == 1
    place = "hopper-gravity-0.5/none-bundled/target-only-1000/seed0"
    assert json.loads((out / place / "config.json").read_text())["settings"]["target_rows"] == 1000
    assert main([*SMALL, "--seeds", "0", "--out", str(out), "--report"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["otdf", "--variants", "magic"], "unknown variant 'magic': use one of default"),
        (["otdf", "--variants", "a=tabb --rule.temperature 2"], "are compared by `tabb benchmark --methods`"),
        (["otdf", "--variants", "latent", "latent"], "a variant is named twice"),
        (["otdf", "--report"], "no run is finished"),
        (["otdf", "--targets"], "name at least one source quality and one target quality"),
        (["otdf", "--updates", "0"], "--updates 0: must be at least 1"),
    ],
)
def test_one_line_errors(arguments, says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tabb: error: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err
    assert not Path("runs").exists()

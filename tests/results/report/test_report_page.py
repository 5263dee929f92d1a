"""`tabb report`: the page says what `score_rows` says, is one whole file, and takes nothing from names as markup."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.policy import Policy
from tabb.results.report.rows import rank_correlation, steps_of
from tabb.results.row_scores import open_run, score_rows


@pytest.fixture(scope="module")
def page(two_seeds, open_page):
    assert main(["report", str(two_seeds)]) == 0
    return open_page(two_seeds / "report.html")


@pytest.fixture(scope="module")
def scores(two_seeds):
    return score_rows(two_seeds / "seed1").columns


def value(text: str) -> float:
    return float(text.replace(",", "").replace("%", "").replace("<", ""))


def close(text: str, expected: float) -> bool:
    """Whether three significant digits of `expected` are what is written."""
    return value(text) == pytest.approx(expected, rel=6e-3, abs=1e-9)


def test_it_is_one_file_that_fetches_nothing(page):
    names = {element.tag for element in page.root.iter()}
    assert not names & {"script", "link", "img", "iframe", "object", "image", "use"}
    for element in page.root.iter():
        for name, text in element.attrib.items():
            assert name not in ("src", "srcset", "style")
            assert name != "href" or text.startswith("#")
    style = "".join(element.text for element in page.root.iter("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in page.text
    ids = [element.get("id") for element in page.root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {element.get("href")[1:] for element in page.root.iter("a")} == set(ids)
    for svg in page.root.iter("svg"):
        assert svg.find("title").text


def test_names_of_files_are_text(page, report_files):
    assert not list(page.root.iter("b")) or all(element.text != " & " for element in page.root.iter("b"))
    facts = dict(page.tables("headline")[0])
    assert facts["source data"] == report_files["source"]
    assert Path(report_files["source"]).name in page.words("audit")
    assert "&lt;b&gt; &amp; &quot;co&quot;" in page.text


def test_rows_are_those_of_score_rows(page, scores, two_seeds):
    (rows,) = page.tables("rows")
    run = open_run(two_seeds / "seed1")
    step, terminal = steps_of(run.source), np.asarray(run.source.transitions.terminal)
    order = np.argsort(scores["tbm_plus"], kind="stable")
    assert [int(row[1]) for row in rows] == scores["file_row"][np.r_[order[:10], order[::-1][:10]]].tolist()
    for row in rows:
        (i,) = np.flatnonzero(scores["file_row"] == int(row[1]))
        assert int(row[2]) == scores["episode"][i]
        assert int(row[3]) == step[i]
        assert row[4] == ("yes" if terminal[i] else "")
        predicted = scores["predicted_backup"][i]
        told = (scores["tbm"][i], scores["weight"][i], scores["own_backup"][i], predicted.mean(), predicted.std())
        assert all(close(text, expected) for text, expected in zip(row[5:], told, strict=True))


def test_units_are_those_of_the_columns(page, scores, two_seeds):
    lines = {row[0]: row[1:] for row in page.tables("units")[0]}
    source = open_run(two_seeds / "seed1").source.transitions
    tbm, own = np.asarray(scores["tbm"], float), np.asarray(scores["own_backup"], float)
    for name, found in (("TBM, median", np.median(tbm)), ("TBM, mean", tbm.mean())):
        assert close(lines[name][0], found)
        for text, unit in zip(lines[name][1:3], (abs(own.mean()), own.std()), strict=True):
            share = 100 * found / unit
            assert value(text) == pytest.approx(share, abs=0.051 if share < 10 else 0.51)
        assert close(lines[name][3], found / np.abs(source.reward).mean())
    assert close(lines["mean own backup"][0], own.mean())
    ends = np.flatnonzero(np.diff(source.episode, append=-1))
    assert len(ends) > 10
    logged = sum(
        0.9**k * float(source.reward[i + k]) for i in range(len(tbm)) for k in range(ends[ends >= i][0] - i + 1)
    )
    assert close(lines["rest of the episode as logged, discounted, mean"][0], logged / len(tbm))


def test_headline_tells_how_much_counts(page, scores, two_seeds):
    cards = {div.find("dt").text: div for div in page.sections["headline"].iter("div") if div.find("dt") is not None}
    w, tbm = np.asarray(scores["weight"], float), np.asarray(scores["tbm"], float)
    effective = w.sum() ** 2 / np.square(w).sum()
    card = cards["effective sample size"].find("dd")
    assert value(card.find("b").text) == pytest.approx(100 * effective / len(w), abs=0.51)
    assert f"= {effective:,.0f} of {len(w):,} source rows" in card.find("span").text
    small = np.mean(tbm < 0.1 * np.std(np.asarray(scores["own_backup"], float)))
    assert value(cards["source rows of small TBM"].find("dd/b").text) == pytest.approx(100 * small, abs=0.51)
    other = score_rows(two_seeds / "seed3").columns["weight"]
    agreement = rank_correlation(w, other).value
    assert f"other seeds is {agreement:.2f}" in page.words("headline")
    assert dict(page.tables("headline")[0])["seeds"] == "1, 3"


def test_episodes_and_their_correlation(page, scores, two_seeds):
    source = open_run(two_seeds / "seed1").source.transitions
    numbers = np.unique(scores["episode"])
    weight = np.array([scores["weight"][scores["episode"] == number].mean() for number in numbers])
    tbm = np.array([scores["tbm"][scores["episode"] == number].mean() for number in numbers])
    earned = np.array([source.reward[scores["episode"] == number].sum() for number in numbers])
    (rows,) = page.tables("episodes")
    assert [row[0].split()[0] for row in rows] == ["best"] * 5 + ["worst"] * 5
    for row in rows:
        i = int(np.flatnonzero(numbers == int(row[1]))[0])
        inside = scores["file_row"][scores["episode"] == numbers[i]]
        assert row[2] == f"{inside[0]}–{inside[-1]}"
        assert int(row[3]) == len(inside)
        assert close(row[4], earned[i])
        assert close(row[5], tbm[i])
        assert close(row[6], weight[i])
    shown = [value(row[6]) for row in rows]
    assert min(shown[:5]) >= np.sort(weight)[-5] - 1e-3
    assert max(shown[5:]) <= np.sort(weight)[4] + 1e-3
    assert f"{len(numbers):,} episodes is {rank_correlation(earned, tbm).value:.2f}" in page.words("episodes")


def test_states_that_transfer_worst(page, scores, report_files):
    source, target = (tabb.load(report_files[domain]).observation for domain in ("source", "target"))
    (rows,) = page.tables("regions")
    assert len(rows) == 6  # both ends of three entries
    means = [value(row[1]) for row in rows]
    assert means == sorted(means)
    for row in rows:
        entry, _, rest = row[0].partition(": at ")
        end, bound = rest.split()
        column = source[:, int(entry)]
        limit = np.quantile(column, 0.1 if end == "most" else 0.9)
        assert close(bound, limit)
        inside = column <= limit if end == "most" else column >= limit
        assert close(row[1], scores["weight"][inside].mean())
        assert close(row[2], scores["weight"][~inside].mean())
        there = target[:, int(entry)]
        share = np.mean(there <= limit if end == "most" else there >= limit)
        assert value(row[3]) == pytest.approx(100 * share, abs=0.51)


def test_target_rows_that_were_held_out_are_the_yardstick(two_seeds, open_page, tmp_path):
    assert "trained on these 200 target rows" in open_page_of(two_seeds, tmp_path / "all.html", open_page)
    unseen = shutil.copytree(two_seeds / "seed1", tmp_path / "seed1")
    result = json.loads((unseen / "result.json").read_text())
    episodes = [0, 2]
    (unseen / "result.json").write_text(json.dumps(result | {"held_out": {"episodes": episodes, "policies": []}}))
    target = open_run(unseen).domains.target
    count = int(np.isin(target.episode, episodes).sum())
    assert 0 < count < 200
    words = open_page_of(unseen, tmp_path / "unseen.html", open_page)
    assert f"The {count} target rows are of episodes that were held out" in words


def test_no_section_where_nothing_was_held_out(two_seeds, open_page, tmp_path):
    assert "held-out" not in open_page(tabb.write_report(two_seeds, tmp_path / "page.html")).sections


def open_page_of(run: Path, out: Path, open_page) -> str:
    return open_page(tabb.write_report(run, out)).words("distributions")


def test_score_with_its_interval_over_seeds(two_seeds, open_page, tmp_path):
    """Three evaluations a run; Student's interval of two seeds' scores, 20 and 30: 25 ± 12.706 · 5."""
    runs = shutil.copytree(two_seeds, tmp_path / "runs")
    for seed, score in ((1, 20.0), (3, 30.0)):
        file = runs / f"seed{seed}" / "result.json"
        lines = [
            {"update": at, "mean": score + off, "returns": [score + off - 4, score + off + 4], "lengths": [5, 5],
             "scores": None, "first_seed": 0}
            for at, off in ((5, 90.0), (10, -1.0), (15, 0.0), (20, 1.0))
        ]  # fmt: skip
        result = json.loads(file.read_text())
        file.write_text(json.dumps(result | {"score": score, "evaluations": lines, "measure": "return"}))
    page = open_page(tabb.write_report(runs))
    assert "25.0-38.5 to 88.5, 95% t interval over 2 seeds" in page.words("headline")
    assert "lie inside its interval" in page.words("headline")
    one = open_page(tabb.write_report(runs / "seed1"))
    assert "20.0" in one.words("headline")
    # Both starts have 16 and 24 in the mean of three evaluations: 20 ± 12.706 · 4. All six episodes would tell less.
    assert "-30.8 to 70.8, 95% t interval over 2 starts of episodes, of one seed" in one.words("headline")
    assert "return against updates" in [svg.find("title").text for svg in one.sections["learning"].iter("svg")]


def test_its_command_makes_the_run_again(page, two_seeds, tmp_path):
    program, *arguments = shlex.split(next(page.sections["provenance"].iter("pre")).text)
    assert program == "tabb"
    at = arguments.index("--seeds")
    assert arguments[at + 1 : at + 3] == ["1", "3"]
    del arguments[at + 2]  # one of them will do
    again = tmp_path / "again"
    assert main([*arguments, "--out", str(again), "--progress", "none", "--jobs", "1"]) == 0
    mine, other = (json.loads((root / "seed1" / "config.json").read_text()) for root in (two_seeds, again))
    assert all(mine[key] == other[key] for key in ("rule", "settings", "data"))
    one, two = (Policy.load(root / "seed1" / "policy.npz") for root in (two_seeds, again))
    observations = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(one.act(observations), two.act(observations))


@pytest.fixture(scope="module")
def rival(report_files, tmp_path_factory):
    """The folder of a run of DARA on two source files."""
    folder = tmp_path_factory.mktemp("rival")
    for name, domain in (("a.npz", "source"), ("b.npz", "target")):
        tabb.data.save_npz(folder / name, tabb.load(report_files[domain]))
    settings = tabb.Settings(updates=2, evaluations=0, backbone=tabb.IQL(policies=1, hidden=(8, 8), batch_size=16))
    learner = tabb.Learner(tabb.DARA(updates=2, hidden=(8,)), settings=settings)
    learner.fit([folder / "a.npz", folder / "b.npz"], report_files["target"], folder=folder / "dara")
    return folder / "dara" / "seed0"


def test_rivals_show_their_own_score(rival, open_page, tmp_path):
    page = open_page(tabb.write_report(rival, tmp_path / "page.html"))
    assert "units" not in page.sections
    assert "dara has no Bellman mismatch" in page.words("headline")
    bonus = score_rows(rival).columns["bonus"]
    rows = page.tables("rows")[0]
    assert close(rows[0][-1], bonus.max())
    assert close(rows[10][-1], bonus.min())
    assert "TBM" not in page.words("regions") + page.words("time") + page.words("episodes")


def test_rows_of_several_files_are_told_by_file(rival, open_page, tmp_path):
    """A row's number is that in its file, not in all files one after the other."""
    columns = score_rows(rival).columns
    page = open_page(tabb.write_report(rival, tmp_path / "page.html"))
    (rows,) = page.tables("rows")
    order = np.argsort(-columns["bonus"], kind="stable")
    names = np.array(["a.npz", "b.npz"])[columns["file"]]
    assert [row[1:3] for row in rows] == [
        [names[i], str(columns["row_in_file"][i])] for i in np.r_[order[:10], order[::-1][:10]]
    ]
    (rows,) = page.tables("episodes")
    for row in rows:
        of = columns["episode"] == int(row[2])
        inside = columns["row_in_file"][of]
        assert row[1:4] == [names[of][0], row[2], f"{inside[0]}–{inside[-1]}"]
    assert {row[1] for table in ("rows", "episodes") for row in page.tables(table)[0]} == {"a.npz", "b.npz"}


@pytest.mark.parametrize(
    ("rule", "why"),
    [("pooled", "pooled has no number for each source row"), ("target-only", "target-only draws no source rows")],
)
def test_baselines_say_why_there_are_no_weights(rule, why, train_small, open_page, tmp_path):
    page = open_page(tabb.write_report(train_small(tmp_path / rule, rule)))
    assert set(page.sections) == {"headline", "learning", "audit", "provenance"}
    assert why in page.words("headline")
    assert "mean value against updates" in [svg.find("title").text for svg in page.root.iter("svg")]
    program, *arguments = shlex.split(next(page.sections["provenance"].iter("pre")).text)
    assert program == "tabb"
    assert "--source" in arguments  # which `tabb train` wants outside the catalogue, whether or not the rule reads it


def test_runs_from_arrays_want_their_files_or_say_so(pair, report_files, open_page, tmp_path):
    settings = tabb.Settings(updates=3, evaluations=0, backbone=tabb.IQL(policies=1, hidden=(8, 8), batch_size=16))
    source, target = (tabb.load(report_files[domain]) for domain in ("source", "target"))
    tabb.train(tabb.Pooled(), source, target, settings=settings, folder=tmp_path / "pooled")
    page = open_page(tabb.write_report(tmp_path / "pooled"))
    assert "were not audited" in page.words("audit")
    assert "tabb.train(tabb.Pooled(" in page.words("provenance")
    named = {domain: [file] for domain, file in report_files.items()}
    page = open_page(tabb.write_report(tmp_path / "pooled", **named))
    assert "were not audited" not in page.words("audit")


@pytest.mark.slow
def test_data_may_be_named_in_any_form(two_seeds, report_files, open_page, tmp_path):
    """A file as text, as a path, or the rows themselves, which the audit does not read."""
    source, target = (report_files[domain] for domain in ("source", "target"))
    for named in ((source, Path(target)), ([source], [target])):
        page = open_page(tabb.write_report(two_seeds / "seed0", tmp_path / "a.html", *named))
        assert Path(source).name in page.words("audit")
    rows = (tabb.load(source), tabb.load(target))
    page = open_page(tabb.write_report(two_seeds / "seed0", tmp_path / "a.html", *rows))
    assert Path(source).name not in page.words("audit")


@pytest.mark.slow
def test_other_predictors(train_small, predictor_options, open_page, tmp_path):
    small = [*predictor_options, "--rule.predictor", "agreed"]
    page = open_page(tabb.write_report(train_small(tmp_path / "agreed", "tabb", *small)))
    assert "The yardstick is |predicted − own backup| of target rows" in page.words("distributions")
    columns = score_rows(tmp_path / "agreed" / "seed0").columns
    row = page.tables("rows")[0][-1]
    (i,) = np.flatnonzero(columns["file_row"] == int(row[1]))
    assert close(row[8], columns["predicted_backup"][i, 0])
    page = open_page(
        tabb.write_report(train_small(tmp_path / "target", "tabb", "--rule.scale", "target", *predictor_options))
    )
    assert "relative to the predictor's error on target rows" in page.words("headline")


@pytest.mark.slow
def test_an_evaluated_run_of_the_bundled_data(open_page, tmp_path):
    small = ["--updates", "20", "--evaluations", "3", "--episodes", "2", "--seeds", "0", "--progress", "none"]
    networks = [
        "--backbone.policies",
        "1",
        "--backbone.hidden",
        "8",
        "8",
        "--rule.predictor.updates",
        "5",
        "--rule.predictor.hidden",
        "8",
    ]
    assert main(["train", "tabb", *small, *networks, "--out", str(tmp_path / "run")]) == 0
    page = open_page(tabb.write_report(tmp_path / "run"))
    assert "normalised score" in page.words("headline")
    assert "target data themselves38.0" in page.words("headline")
    assert len(page.text.encode()) < 2_000_000


def test_what_held_out_rows_say(train_small, open_page, predictor_options, tmp_path):
    runs = train_small(
        tmp_path / "runs", "tabb", "--seeds", "0", "1", *predictor_options, "--evaluations", "2", "--held-out", "0.3"
    )
    page = open_page(tabb.write_report(runs))
    (rows,) = page.tables("held-out")
    for seed, row in enumerate(rows):
        last = json.loads((runs / f"seed{seed}" / "result.json").read_text())["held_out"]["policies"][-1]
        assert row[0] == f"seed {seed}"
        low, high = row[1].split(" to ")
        shown = [low, high, *row[2:]]
        names = ["low", "high", "value", "action_error", "td_error", "predictor_error"]
        assert all(close(cell, last[name]) for cell, name in zip(shown, names, strict=True))

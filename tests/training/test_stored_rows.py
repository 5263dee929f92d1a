"""A run whose rows stay in a file is, bit for bit, the run from memory."""

import dataclasses
import json
import signal

import jax
import numpy as np
import pytest

import tabb
from cart import cart
from made_rules import Imagined, Mirrored
from tabb.data import save_npz
from tabb.errors import Stopped, UsageError
from tabb.rules import Rule
from tabb.rules.rule import row_by_row
from tabb.rules.value_noise import ValueNoise
from tabb.training import stored_rows
from tabb.training.observers import Recording
from tabb.training.row_limit import kept_rows, rows_of_episodes
from tabb.transitions import StoredRows

TINY = tabb.IQL(hidden=(16, 16), batch_size=16)
SETTINGS = tabb.Settings(updates=60, evaluations=2, held_out=0.0, backbone=TINY)
PREDICTOR = tabb.ResidualPredictor(heads=2, updates=20, batch_size=16, hidden=16)


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A cache of the test's own, and so few rows at once that small data are many pieces and chunks."""
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tabb.models.fitting.ROWS_PER_CALL", 64)
    monkeypatch.setattr("tabb.transitions.PIECE", 128)
    monkeypatch.setattr(stored_rows, "SCORED", 128)
    monkeypatch.setattr(stored_rows, "AHEAD", 4 * 16 * 7 * 4)


@pytest.fixture
def files(tmp_path):
    save_npz(tmp_path / "source.npz", tabb.from_arrays(**cart(1000, 0)))
    save_npz(tmp_path / "target.npz", tabb.from_arrays(**cart(400, 1, 0.15)))
    return tmp_path / "source.npz", tmp_path / "target.npz"


def learned(files, rule, settings=SETTINGS, store=(False, False), folder=None, **options):
    source, target = (tabb.load(file, store=stays) for file, stays in zip(files, store, strict=True))
    return tabb.train(rule, source, target, settings=settings, folder=folder, **options)


def leaves(run):
    return [
        np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        for leaf in jax.tree.leaves((run.learned.state, run.learned.models))
    ]


def same(first, second):
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))
        assert [m.to_dict() for m in one.held_out] == [m.to_dict() for m in other.held_out]


def told(folder):
    """The lines of metrics without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "rate"} for line in lines]


@pytest.mark.slow
def test_pooled_with_held_out_rows_and_row_limits(files, tmp_path):
    settings = dataclasses.replace(SETTINGS, evaluations=1, held_out=0.2, source_rows=700, target_rows=300)
    folders = tmp_path / "memory", tmp_path / "files"
    plain = learned(files, tabb.Pooled(), settings, folder=folders[0], seeds=(3,))
    same(plain, learned(files, tabb.Pooled(), settings, (True, True), folders[1], seeds=(3,)))
    assert told(folders[1] / "seed3") == told(folders[0] / "seed3")
    configs = [json.loads((folder / "seed3" / "config.json").read_text()) for folder in folders]
    assert configs[0]["data"] == configs[1]["data"]


@pytest.mark.slow
def test_pooled_of_several_seeds_with_the_target_in_memory(files):
    plain = learned(files, tabb.Pooled(), seeds=(0, 3))
    same(plain, learned(files, tabb.Pooled(), store=(True, False), seeds=(0, 3)))


BOTH, NEITHER = (True, True), (False, False)


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [pytest.param(*places, marks=pytest.mark.slow) for places in [(BOTH, BOTH), (NEITHER, BOTH), (BOTH, NEITHER)]],
)
def test_tabb_stopped_and_resumed_from_either_place(files, tmp_path, monkeypatch, begun, resumed):
    rule = tabb.TABB(predictor=PREDICTOR, scale="target")
    plain = learned(files, rule)
    after = Recording.after

    def stop(self, stretch):
        after(self, stretch)
        if stretch.update == 25:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Recording, "after", stop)
    with pytest.raises(Stopped):
        learned(files, rule, store=begun, folder=tmp_path / "run")
    monkeypatch.setattr(Recording, "after", after)
    same(plain, learned(files, rule, store=resumed, folder=tmp_path / "run", resume=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule",
    [
        tabb.TargetOnly(),
        tabb.FineTune(),
        Mirrored(rows=4),
        tabb.DARA(**tabb.DARA.small),
        tabb.DROCO(**tabb.DROCO.small),
        tabb.BOSA(**tabb.BOSA.small),
        tabb.rules.RULES["correct"](**tabb.rules.RULES["correct"].small),
        tabb.rules.RULES["vgdf"](**tabb.rules.RULES["vgdf"].small),
        tabb.TABB(predictor=tabb.AgreedShift(updates=20)),
    ],
    ids=lambda rule: rule.name,
)
def test_every_rule_that_computes_row_by_row(files, rule):
    same(learned(files, rule), learned(files, rule, store=(True, True)))


@pytest.mark.slow
def test_copies_of_a_target_in_memory(files):
    settings = dataclasses.replace(SETTINGS, imitation=tabb.Imitation(rows="noisy", best=0.5, copies=3))
    same(learned(files, tabb.Pooled(), settings), learned(files, tabb.Pooled(), settings, (True, False)))
    with pytest.raises(UsageError, match="copies of all 400 target rows, which stay in a file; use rows=logged"):
        learned(files, tabb.Pooled(), settings, (True, True))


@dataclasses.dataclass(frozen=True)
class Ranked(Rule):
    """Numbers each row by its place among all rewards."""

    name = "ranked"

    def columns(self, models, domains):
        return {"rank": jax.numpy.argsort(jax.numpy.argsort(domains.source.reward))}


@dataclasses.dataclass(frozen=True)
class Marked(Ranked):
    """One that says that it does not."""

    @row_by_row
    def columns(self, models, domains):
        return {}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (Ranked(), "its columns compare all rows with one another"),
        (ValueNoise(), "its columns compare all rows with one another"),
        (tabb.FineTune(watched=0.2), "its target_columns compare all rows"),
        (tabb.rules.CPQ(), "reads cost of each row, which a store does not give"),
        (Imagined(rows=4), "draws rows anew between updates, which a store cannot give"),
    ],
)
def test_a_rule_that_needs_all_rows_at_once_says_so(files, rule, what):
    with pytest.raises(UsageError, match=f"{what}.*; read the data without --store$"):
        learned(files, rule, store=(True, False))


def test_a_method_that_replaces_marked_columns_is_marked_itself():
    assert tabb.TABB().is_row_by_row("columns")
    assert Marked().is_row_by_row("columns")
    assert not dataclasses.make_dataclass(
        "Own", [], bases=(tabb.TABB,), frozen=True, namespace={"columns": lambda self, models, domains: {}}
    )().is_row_by_row("columns")


@pytest.mark.slow
def test_models_of_many_rows_are_fitted_to_whole_episodes(files, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(stored_rows, "FITTED", 300)
    monkeypatch.setattr("tabb.training.learned_rows.FITTED", 300)
    rule = tabb.TABB(predictor=PREDICTOR)
    (run,) = learned(files, rule, store=(True, False), folder=tmp_path / "run", progress="lines")
    assert "models are fitted to 300 source rows: whole episodes, drawn by rows_seed" in capsys.readouterr().err
    assert run.learned.config["data"]["fitted"] == {"source": 300}
    monkeypatch.setattr("tabb.results.row_scores.FITTED", 300)
    with pytest.raises(UsageError, match="learned from 1,000 source rows in a file, but rows are scored in memory"):
        tabb.score_rows(run, tabb.load(files[0], store=True), tabb.load(files[1]))


def test_rows_of_rising_episodes_are_those_of_any_order():
    episode = np.repeat([0, 1, 2, 3, 4], [5, 1, 7, 3, 4])
    for rows in (1, 4, 9, 19):
        for seed in range(4):
            kept = rows_of_episodes(episode, rows, seed)
            falling = rows_of_episodes(np.append(episode, 0)[:-1], rows, seed)
            assert np.array_equal(kept, falling)
            assert len(kept) == rows
            mixed = np.random.default_rng(seed).permutation(20)
            other = rows_of_episodes(episode[mixed], rows, seed)
            assert np.array_equal(
                np.bincount(episode[kept], minlength=5), np.bincount(episode[mixed][other], minlength=5)
            )


def test_too_many_rows_for_their_numbers(monkeypatch, files):
    monkeypatch.setattr(stored_rows, "MOST_ROWS", 1399)
    with pytest.raises(UsageError, match="1,400 rows are more than 1,399"):
        learned(files, tabb.Pooled(), store=(True, False))


def test_some_rows_of_a_file_are_taken_in_their_order(files):
    data = tabb.load(files[0], store=True)
    kept = kept_rows(data, 300, 1)
    rows = StoredRows(data, kept)
    assert len(rows) == 300
    assert np.array_equal(rows.part(slice(5, 9)).reward, np.asarray(data.reward)[kept[5:9]])

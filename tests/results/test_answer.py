"""Which policy of several runs to take: what is written, said and shown, and where nothing can be said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.commands.carry_out import tell_answer
from tabb.errors import DataError, RunError, UsageError
from tabb.policy import Policy
from tabb.results.answer import Answer, answer_of, answers_among, give_answer, in_words, read_answer

HELD = ["--imitation.matching", "0.1", "--imitation.model-updates", "3", "--imitation.rollouts", "4", "--held-out", "0"]
QUICK = ["--preset", "quick", "--rule.predictor.updates", "2", "--rule.predictor.heads", "2"]


@pytest.fixture(scope="module")
def runs(train_small, tmp_path_factory) -> Path:
    """A folder with a run of TABB that is held to paths, and one of the source alone."""
    root = tmp_path_factory.mktemp("answer")
    train_small(root / "tabb", "tabb", *QUICK, "--rule.predictor.hidden", "8", *HELD, "--backbone.policies", "2")
    train_small(root / "source-only", "source-only", "--held-out", "0")
    assert [Policy.load(root / name / "seed0").networks for name in ("tabb", "source-only")] == [2, 1]
    return root


def test_the_answer_is_one_of_both_and_its_policy_is_kept(runs, capsys):
    found = answer_of(runs)
    assert found is not None
    assert found.policy == runs / found.learner / "seed0" / "policy.npz"
    words = give_answer(runs)
    assert words is not None
    assert words.startswith(f"answer: {found.learner} ({runs / 'policy.npz'})")
    assert read_answer(runs) == found
    state = np.zeros(3, np.float32)
    assert np.array_equal(Policy.load(runs / "policy.npz").act(state), Policy.load(found.policy).act(state))
    told = json.loads((runs / "answer.json").read_text())
    assert isinstance(told.pop("source_seen"), float)
    (runs / "answer.json").write_text(json.dumps(told))
    assert read_answer(runs) == found._replace(source_seen=None), "a file from before it was asked"
    assert give_answer(runs) == words, "it may be given again"
    # The page of both has it first.
    assert main(["report", str(runs)]) == 0
    capsys.readouterr()
    page = (runs / "comparison.html").read_text()
    assert page.index("Which policy to take") < page.index("95% interval")


def test_a_page_without_one_of_its_runs_does_not_show_the_answer(runs, tmp_path):
    root = tmp_path / "all"
    shutil.copytree(runs, root)
    shutil.copytree(runs / "source-only", root / "pooled")
    for file in ("config.json", "result.json"):
        text = (root / "pooled" / "seed0" / file).read_text()
        (root / "pooled" / "seed0" / file).write_text(text.replace("source-only", "pooled"))
    give_answer(root)
    both, all_runs = [root / "tabb" / "seed0", root / "source-only" / "seed0"], sorted(root.glob("*/seed0"))
    assert len(all_runs) == 3
    assert answers_among(root, both) == answers_among(root, all_runs) == read_answer(root) is not None
    assert answers_among(root, [root / "tabb" / "seed0", root / "pooled" / "seed0"]) is None
    assert "Which policy to take" not in tabb.write_comparison([root / "tabb", root / "pooled"]).read_text()
    (root / "source-only" / "seed0" / "config.json").write_text("{")
    assert answers_among(root, [root / "tabb" / "seed0", root / "pooled" / "seed0"]) is None, "a run beside is damaged"


def test_without_paths_or_on_other_data_there_is_none(runs, tmp_path):
    shutil.copytree(runs / "tabb", tmp_path / "a" / "tabb")
    assert answer_of(tmp_path / "a") is None, "one learner is missing"
    shutil.copytree(runs / "source-only", tmp_path / "a" / "source-only")
    assert answer_of(tmp_path / "a") is not None
    config = tmp_path / "a" / "source-only" / "seed0" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"data": told["data"] | {"source": "of others"}}))
    assert answer_of(tmp_path / "a") is None
    config.write_text(json.dumps(told))
    shutil.copytree(runs / "source-only", tmp_path / "a" / "again")
    assert answer_of(tmp_path / "a") is None, "two runs of one seed"
    shutil.rmtree(tmp_path / "a" / "again")
    config = tmp_path / "a" / "tabb" / "seed0" / "config.json"
    told = json.loads(config.read_text())
    told["settings"]["imitation"]["model"] = "target"
    config.write_text(json.dumps(told))
    assert answer_of(tmp_path / "a") is None, "the model knows nothing of where the source's policy goes"
    told["settings"]["imitation"]["model"] = "both"
    config.write_text(json.dumps(told))
    assert answer_of(tmp_path / "a") is not None
    (tmp_path / "a" / "tabb" / "seed0" / "path-model.npz").unlink()
    assert give_answer(tmp_path / "a") is None
    assert not (tmp_path / "a" / "answer.json").exists()


def test_files_of_others_stay(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "a", ignore=shutil.ignore_patterns("answer.json", "policy.npz"))
    for run in ("tabb", "source-only"):
        shutil.copy(runs / run / "seed0" / "policy.npz", tmp_path / "a" / run / "seed0" / "policy.npz")
    (tmp_path / "a" / "answer.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"answer.json: is there already"):
        give_answer(tmp_path / "a")
    with pytest.raises(RunError, match=r"answer.json: is damaged"):
        read_answer(tmp_path / "a")


def test_finished_runs_stay_finished_where_there_is_no_answer(tmp_path, monkeypatch, capsys):
    """A log that is gone, or a file of the user's in the way, is said in a line, and ends no command."""

    def fails(root):
        raise DataError("sim.npz: no such file")

    monkeypatch.setattr("tabb.results.answer.give_answer", fails)
    tell_answer(tmp_path)
    assert capsys.readouterr().err == "tabb: cannot say which policy to take: sim.npz: no such file\n"


def test_words_by_hand():
    found = Answer("source-only", Path("r/source-only/seed0/policy.npz"), 47.1, 25.4, 64.6, (0.0, 0.0), False)
    assert in_words(found, Path("r")).splitlines() == [
        "answer: source-only (r/policy.npz)",
        "  In the model of the target, 16 episodes each: tabb 25.4, source-only 64.6; the target's log 47.1.",
        "  tabb's policy falls far short of the log in the model, and source-only's is far ahead: source-only's is "
        "taken.",
    ]
    close = found._replace(learner="tabb", source=30.0, close=True)
    assert in_words(close, Path("r")).splitlines()[2:] == [
        "  tabb's policy falls far short of the log in the model, but source-only's is not far ahead: tabb's is taken.",
        "  It is a close call: try both policies with care.",
    ]
    kept = found._replace(learner="tabb", target=45.0, source_seen=4.0)
    assert in_words(kept, Path("r")).splitlines()[1:] == [
        "  In the model of the target, 16 episodes each: tabb 45.0, source-only 64.6 (4.0 where the target's rows "
        "are); the target's log 47.1.",
        "  tabb's policy does in the model about what the log did. source-only's is far ahead, but where no target row "
        "is the model does not know what the domain changes: tabb's is taken.",
    ]
    behind = in_words(kept._replace(source=50.0), Path("r"))
    assert "about what the log did, and source-only's is not far ahead: tabb's is taken." in behind
    lost = in_words(found._replace(learner="tabb", lost=(0.2, 0.9)), Path("r"))
    assert (
        "falls far short of the log in the model, and the model loses source-only's in 90% of its episodes, so "
        "its return is not known: tabb's is taken."
    ) in lost
    unfollowed = in_words(found._replace(learner="tabb", source=30.0, lost=(0.75, 0.0)), Path("r"))
    assert "The model loses tabb's policy in 75% of its episodes, and source-only's is not far ahead" in unfollowed

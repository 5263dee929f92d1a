"""The answer of several runs on the same two logs: TABB's policy, or the source's as it is.

Both act in the model of the target that TABB's run was held to its paths in (`tabb.evaluation.choice`). The answer is
written to `answer.json` in the folder that holds the runs, and its policy to `policy.npz` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tabb.data.report import Loaded, log_return
from tabb.environments.tasks import Task, get_task
from tabb.errors import RunError
from tabb.evaluation.choice import (
    AHEAD,
    LOST,
    STARTS,
    InModel,
    choose,
    close_call,
    fails,
    falls_short,
    in_model,
    longest_episode,
)
from tabb.files import path_of, read_json, write_json
from tabb.models.imitation import Imitation, learned_from
from tabb.models.matching import model_template
from tabb.own_files import refuse_others
from tabb.policy import Policy
from tabb.results.row_scores import open_run, run_data
from tabb.results.summary import learner_of
from tabb.shown import percent, tenths
from tabb.training.checkpoint import load_tree
from tabb.training.config import settings_from
from tabb.training.folder import RunFolder

TARGET, SOURCE = "tabb", "source-only"
"""the learners between which it is chosen"""
FILE, POLICY = "answer.json", "policy.npz"


class Answer(NamedTuple):
    """Which policy to take, and what the model said of both."""

    learner: str
    policy: Path
    """file of the policy: that of the lowest seed"""
    logged: float
    """what the target's log itself has (`log_return`): a score in a task of the catalogue, else a return"""
    target: float
    """TABB's in the model, the mean over its seeds, in the same units"""
    source: float
    """the source's, likewise"""
    lost: tuple[float, float]
    """shares of their episodes that the model could not follow"""
    close: bool
    """whether a tenth of the log's return more or less would have changed the choice"""
    source_seen: float | None = None
    """the source's where it is in the range of the target's own rows; None in files from before it was asked"""


def answer_of(root: str | Path) -> Answer | None:
    """Which policy to take of the finished runs below `root`: that of `tabb`, or that of `source-only`.

    Both act in the model of the target that TABB's policy was held to its paths in. How often that was right is on the
    docs' page on selection. None where nothing can be said: a learner is missing, the runs had other source data or
    were trained from arrays, or TABB was held to no paths (its run was shorter than 5,000 updates), or to those of a
    model of target rows alone, which knows nothing of where the source's policy goes.

    Raises:
        RunError: there is no such folder, or a run is damaged.
        DataError: a data file is missing or damaged.
    """
    if not path_of(root, "root").is_dir():
        raise RunError(f"{root}: no such folder; give the folder of runs")
    pairs = _pairs_of(Path(root))
    if not pairs or not all(_comparable(*pair) for pair in pairs):
        return None
    judged = [_judged(*pair) for pair in pairs]
    logged = judged[0].logged
    target, source = (
        InModel(*np.mean([getattr(one, side) for one in judged], axis=0).tolist()) for side in ("target", "source")
    )
    of_target = choose(logged, target, source) == "target"
    name, folder = (TARGET, pairs[0][0]) if of_target else (SOURCE, pairs[0][1])
    close = close_call(logged, target, source)
    lost = (target.lost, source.lost)
    return Answer(name, folder.policy_file, logged, target.value, source.value, lost, close, source.seen)


def give_answer(root: Path) -> str | None:
    """The answer in words, after it was written with its policy; None where there is none.

    Raises `UsageError` for files of others in the place of `answer.json` and `policy.npz`.
    """
    found = answer_of(root)
    if found is None:
        return None
    refuse_others(root / FILE, "answer")
    refuse_others(root / POLICY, "policy")
    Policy.load(found.policy).save(root / POLICY)
    about = {name: value for name, value in found._asdict().items() if name != "policy"}
    write_json(root / FILE, about | {"policy": str(found.policy.relative_to(root))})
    return in_words(found, root)


def answers_among(root: Path, runs: Iterable[Path]) -> Answer | None:
    """The answer that was written to `root`, if it is between some of these runs; None if it is between others.

    None as well where a run below `root` is damaged. Raises `RunError` for a damaged answer.
    """
    found = read_answer(root)
    if found is None:
        return None
    try:
        between = {one.path.resolve() for pair in _pairs_of(root) for one in pair}
    except RunError:  # these runs may be well
        return None
    return found if between and between <= {run.resolve() for run in runs} else None


def read_answer(root: Path) -> Answer | None:
    """The answer that was written to this folder; None if there is none. Raises `RunError` for a damaged file."""
    if not (root / FILE).is_file():
        return None
    try:
        values: dict[str, Any] = read_json(root / FILE)
        return Answer(**values | {"policy": root / values["policy"], "lost": tuple(values["lost"])})
    except (TypeError, KeyError, ValueError) as error:
        raise RunError(f"{root / FILE}: is damaged ({error}); train the runs again in another folder") from None


def reason(found: Answer) -> str:
    """Why this policy is the answer, in a sentence."""
    failed = fails(found.logged, found.target, found.lost[0])
    if failed:
        does = f"{TARGET}'s policy falls far short of the log in the model"
    elif falls_short(found.logged, found.target):
        does = f"The model loses {TARGET}'s policy in {percent(found.lost[0])} of its episodes"
    else:
        does = f"{TARGET}'s policy does in the model about what the log did"
    if found.learner == SOURCE:
        return f"{does}, and {SOURCE}'s is far ahead: {SOURCE}'s is taken."
    if found.lost[1] > LOST:
        unknown = f"the model loses {SOURCE}'s in {percent(found.lost[1])} of its episodes, so its return is not known"
        return f"{does}, and {unknown}: {TARGET}'s is taken."
    if found.source <= found.target + AHEAD * abs(found.logged):
        return f"{does}, {'but' if failed else 'and'} {SOURCE}'s is not far ahead: {TARGET}'s is taken."
    return (
        f"{does}. {SOURCE}'s is far ahead, but where no target row is the model does not know what the domain changes: "
        f"{TARGET}'s is taken."
    )


def size_among(found: Answer) -> float:
    """The largest return or score of an answer: all are shown as numbers of this size."""
    return max(map(abs, (found.logged, found.target, found.source, found.source_seen or 0.0)))


def in_words(found: Answer, root: Path) -> str:
    """The answer, what it rests on, and how sure it is: a few lines."""
    size = size_among(found)
    seen = found.source if found.source_seen is None else found.source_seen
    target, source, seen_there, logged = (tenths(one, size) for one in (found.target, found.source, seen, found.logged))
    apart = f" ({seen_there} where the target's rows are)" if seen_there != source else ""
    lines = [
        f"answer: {found.learner} ({root / POLICY})",
        f"  In the model of the target, {STARTS} episodes each: {TARGET} {target}, {SOURCE} {source}{apart}; the "
        f"target's log {logged}.",
        f"  {reason(found)}",
    ]
    if found.close:
        lines.append("  It is a close call: try both policies with care.")
    return "\n".join(lines)


def _pairs_of(root: Path) -> list[tuple[RunFolder, RunFolder]]:
    """The finished runs below `root` between which the answer is: both learners', for each seed that both have."""
    runs = {name: _runs_of(root, name) for name in (TARGET, SOURCE)}
    return [(run, runs[SOURCE][seed]) for seed, run in runs[TARGET].items() if seed in runs[SOURCE]]


def _runs_of(root: Path, learner: str) -> dict[int, RunFolder]:
    """The finished runs of a learner by seed; none where a seed has several, as in a comparison on several data."""
    folders: dict[int, RunFolder] = {}
    for file in sorted(root.rglob("result.json")):
        folder = RunFolder(file.parent)
        if not folder.policy_file.exists() or learner_of(read_json(file)) != learner:
            continue
        seed = int(folder.config()["seed"])
        if seed in folders:
            return {}
        folders[seed] = folder
    return dict(sorted(folders.items()))


def _comparable(target: RunFolder, source: RunFolder) -> bool:
    """Whether both runs had the same source log, task and files, and TABB was held to paths by a model of both."""
    one, other = target.config(), source.config()
    same = one["data"]["source"] == other["data"]["source"] and one["task"] == other["task"]
    files = all(isinstance(one.get("origin", {}).get(domain), dict) for domain in ("source", "target"))
    return same and files and target.path_model_file.exists() and imitation_in(target).model == "both"


def imitation_in(run: RunFolder) -> Imitation:
    """What the policy of a run imitates."""
    imitation = settings_from(run.config()).imitation
    assert imitation is not None  # a run's own settings say so
    return imitation


def logged_return(loaded: Loaded, task: Task | None) -> float:
    """What a run's log of the target has (`log_return`), of the rewards that the run learned from."""
    known = loaded.report.mean_return
    if known is not None and (task is None or not task.reward_offset):
        return known
    rows = loaded.transitions
    return log_return(rows.reward, rows.episode, loaded.report.cut)


class _Judged(NamedTuple):
    """What the target's log earned, and what both policies do in TABB's model of it."""

    logged: float
    target: InModel
    source: InModel


def _judged(target: RunFolder, source: RunFolder) -> _Judged:
    """Both runs judged, in scores where there are some."""
    run = open_run(target.path)
    loaded = run_data(run.config, "target", None, str(target.path))
    log = loaded.transitions
    learned = learned_from(run.domains, run.rule.set_aside(run.domains.target))
    template = model_template(imitation_in(target), learned, jax.random.key(0))
    model, _ = load_tree(target.path_model_file, template)
    task = None if run.config["task"] is None else get_task(run.config["task"])
    # The source's episodes may be longer: a return of more steps than the log's has is not to be held against it.
    steps = longest_episode(log) if task is None else task.max_episode_steps
    policies = [Policy.load(folder.policy_file) for folder in (target, source)]
    one, other = (in_model(policy, model, run.domains, steps) for policy in policies)
    logged = logged_return(loaded, task)
    if task is None or task.reward_offset:  # a return of other rewards has no score
        return _Judged(logged, one, other)

    def score(value: float) -> float:
        return float(task.normalised_score(value))

    def scored(policy: InModel) -> InModel:
        return policy._replace(value=score(policy.value), seen=score(policy.seen))

    return _Judged(score(logged), scored(one), scored(other))

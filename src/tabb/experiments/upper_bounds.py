"""How much would a perfect judgement of the source rows be worth? Policies trained with the simulator's own answers.

The simulator of the target domain is asked for every source row, as no user could; the answers take the place of the
predictor's in two ways:

    weights     TABB as it is, with the true target-domain outcome of each source row where the prediction was:
                its TBM is then the oracle Bellman error itself
    outcomes    each source row's next state, reward and terminal replaced by the true ones, all rows trusted by
                critic and policy alike: what the source's states and actions are worth once their dynamics are right
    critic      the same rows, trusted by the critic alone; the policy imitates target rows, as TABB's does
    corrected   as `outcomes`, but with the next state and reward that the agreed shift of the predictor `agreed`
                gives, which any user can have: no bound, but how much of one can be reached

beside target-only and TABB as they are. If `weights` is no better than TABB, a better predictor
will not help either; if `critic` is no better than target-only, nothing that is done to the critic's source rows will.

With --climb ALPHA the policy climbs a normed critic (docs/measured-policies.md, "A critic that can be climbed").

    TABB_DATA=... python -m tabb.experiments.upper_bounds --tasks hopper-gravity-0.5 --out runs/upper

A run takes as long as one of TABB; its result is in `runs/upper/<task>/<source>/<form>/seed0`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tabb.backbones import IQL
from tabb.batch import Domains, fit_normaliser, make_domains
from tabb.data import read
from tabb.data.catalogue import resolve
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.evaluation.oracle import Truth, ask_target, known_state
from tabb.models.agreed_shift import AgreedShift
from tabb.models.fitting import Report
from tabb.models.predictors import PREDICTORS
from tabb.models.target_predictor import Outcome, TargetPredictor
from tabb.own_files import refuse_others
from tabb.rules import TABB, Pooled, Rule
from tabb.rules.rule import Weights
from tabb.training import Settings, train
from tabb.transitions import Transitions

FORMS = ("weights", "outcomes", "critic", "corrected")


@dataclasses.dataclass(frozen=True)
class GivenOutcomes(TargetPredictor):
    """Target-domain outcomes of the source rows that a file holds: nothing is fitted."""

    name: ClassVar[str] = "given"

    file: str = ""
    """npz with next (normalised) [N, S], reward_hat [N] and terminal_hat [N]"""

    def init(self, domains: Domains, key: Any) -> tuple[()]:
        return ()

    def fit(self, domains: Domains, key: Any, report: Report) -> tuple[()]:
        return ()

    def outcomes(self, models: Any, rows: Transitions) -> Outcome:
        raise UsageError("outcomes are given for a whole source, not for rows of it")

    def source_outcomes(self, models: Any, source: Transitions) -> Outcome:
        with np.load(self.file, allow_pickle=False) as answers:
            return Outcome(*(jnp.asarray(answers[name])[:, None] for name in ("next", "reward_hat", "terminal_hat")))

    def predicted_backup(self, backups: Any) -> Any:
        return backups[:, 0]

    def doubt(self, backups: Any, own: Any) -> Any:
        return jnp.zeros_like(own)


@dataclasses.dataclass(frozen=True)
class ImitateTarget(Rule):
    """All rows alike in critic and value; the policy learns from target rows."""

    name: ClassVar[str] = "imitate-target"

    def weigh(self, step: Any) -> Any:
        batch = step.batch
        ones = jnp.ones(len(batch))
        return Weights(ones, ones, (jnp.arange(len(batch)) >= batch.source_rows).astype(ones.dtype)), {}


def truth_of(task_name: str, source: Transitions) -> Truth:
    """What the target domain makes of each source row; a row whose state is not known keeps its own outcome."""
    task = get_task(task_name)
    known = known_state(task, source)
    asked = ask_target(task, source[np.flatnonzero(known)])
    own = (np.array(source.next_observation), np.array(source.reward), np.array(source.terminal))
    for column, answers in zip(own, asked, strict=True):
        column[known] = answers
    return Truth(*own)


def corrected(source: Transitions, target: Transitions, seed: int) -> Truth:
    """Each source row's outcome moved by the shift that the predictor's hypotheses agree on."""
    domains = make_domains(source, target)
    predictor = AgreedShift()
    models = predictor.fit(domains, jax.random.key(seed), lambda what, share: None)
    outcome = predictor.source_outcomes(models, domains.source)
    move = (outcome.following[:, 0] - domains.source.next_observation) * domains.normaliser.scale
    return Truth(
        np.asarray(source.next_observation + move, np.float32),
        np.asarray(outcome.reward[:, 0], np.float32),
        np.asarray(source.terminal),
    )


def train_with_answers(task: str, quality: str, form: str, seed: int, settings: Settings, out: Path) -> None:
    """One run, its result in `out`/<task>/<quality of the source>/<form>/seed<k>/result.json."""
    source = read(resolve(quality, task, "source")).transitions
    target = read(resolve("medium", task, "target")).transitions
    truth = corrected(source, target, seed) if form == "corrected" else truth_of(task, source)
    rule: Rule = Pooled()
    if form == "weights":
        normaliser = fit_normaliser(source, target, "pooled")
        following = np.asarray(normaliser(jnp.asarray(truth.next_observation)))
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"{task}-{quality}.npz"
        refuse_others(file, "answers")
        np.savez(file, next=following, reward_hat=truth.reward, terminal_hat=truth.terminal)
        rule = TABB(predictor=GivenOutcomes(str(file)))
        PREDICTORS[GivenOutcomes.name] = GivenOutcomes  # so that a run that was stopped is read back
    else:
        # A terminal row has no next state: its own state stands there, as the doors of tabb.data have it.
        ended = truth.terminal[:, None] > 0
        if form == "critic":
            rule = ImitateTarget()
        source = dataclasses.replace(
            source,
            next_observation=np.where(ended, source.observation, truth.next_observation),
            reward=truth.reward,
            terminal=truth.terminal,
        )
    train(
        rule,
        source,
        target,
        task=task,
        seeds=[seed],
        settings=settings,
        folder=out / task / quality / form,
        progress="lines",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["hopper-gravity-0.5", "walker2d-gravity-0.5"])
    parser.add_argument("--source", default="medium", help="quality of the source data")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--climb", type=float, metavar="ALPHA", help="a policy that climbs a normed critic")
    parser.add_argument("--beta", type=float, default=3.0, help="inverse temperature of a policy that imitates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("runs/upper"))
    options = parser.parse_args()
    backbone = IQL(temperature=options.beta, layer_norm=False)
    if options.climb is not None:
        backbone = IQL(extraction="improvement", value_weight=options.climb, layer_norm=True)
    settings = Settings(updates=options.updates, backbone=backbone)
    for task in options.tasks:
        for form in options.forms:
            train_with_answers(task, options.source, form, options.seed, settings, options.out)


if __name__ == "__main__":
    main()

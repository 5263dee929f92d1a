"""What a run is made of, as plain data: written to `config.json`, read back to continue the run."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from tabb.backbones import BACKBONES, Backbone, own_backbone
from tabb.errors import UsageError
from tabb.field_types import check_field_types
from tabb.models.imitation import ENOUGH_UPDATES, LOGGED, MATCHING, Imitation
from tabb.plain import from_plain, plain
from tabb.registry import backbone_named
from tabb.rules import Rule
from tabb.training.online import OFFLINE, Online

C = TypeVar("C")

MOST_UPDATES = 2**31 - 1
"""what updates are counted to"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a run is trained and scored; the same for every method under comparison."""

    updates: int = 10_000
    """updates of the run; the policy's cosine schedule spans them"""
    evaluations: int = 20
    """evaluations during the run, evenly spaced, the last one at its end; 0 for none"""
    episodes: int = 10
    """episodes of each evaluation"""
    evaluation_seed: int = 10_000
    """first reset seed of the evaluation episodes"""
    normalise: typing.Literal["pooled", "none"] = "pooled"
    """standardise observations by both domains (each counting half), or not at all"""
    engine: typing.Literal["legacy", "native"] = "legacy"
    """physics of the evaluation: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's"""
    held_out: float | None = None
    """share of the target's episodes that training does not see; policies are judged by them where nothing is rolled
    out (`tabb select`). If not given, 0.2 without a task or environment, if there are three episodes, else 0"""
    source_rows: int | None = None
    """learn from at most this many source rows: whole episodes drawn by `rows_seed`, the last one cut where the number
    is reached; all if not given"""
    target_rows: int | None = None
    """the same for the target"""
    rows_seed: int = 0
    """which episodes are drawn for `source_rows` and `target_rows`; not the seed of training"""
    imitation: Imitation | None = None
    """what the policy imitates of the target's rows: see `tabb.Imitation`; None is the rule's own"""
    online: Online = OFFLINE
    """steps in environments while it learns: see `tabb.Online`"""
    backbone: Backbone | None = None
    """the single-domain learner and its constants; None is the rule's own (IQL for most), with the constants that the
    rule (BOSA) or the task's suite (AntMaze, Adroit) has for it. In Python one that is given is taken as it is: start
    from `tabb.backbones.for_task(rule, own_backbone(rule), task.suites)` to keep those constants"""

    def __post_init__(self) -> None:
        if isinstance(self.backbone, str):
            object.__setattr__(self, "backbone", backbone_named(self.backbone))
        if self.backbone is not None and not isinstance(self.backbone, Backbone):
            given = self.backbone.__name__ if isinstance(self.backbone, type) else type(self.backbone).__name__
            raise UsageError(f"backbone is {given}: give an instance such as tabb.IQL(), or a name such as 'iql'")
        check_field_types(self)
        limits = [name for name in ("source_rows", "target_rows") if getattr(self, name) is not None]
        least_of = {"updates": 1, "evaluations": 0, "episodes": 1, "evaluation_seed": 0, "rows_seed": 0}
        for name, least in (least_of | dict.fromkeys(limits, 1)).items():
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}: must be at least {least}")
        if self.updates > MOST_UPDATES:
            raise UsageError(
                f"updates={self.updates}: must be at most {MOST_UPDATES:,}, which counters of 32 bits hold"
            )
        if self.held_out is not None and not 0 <= self.held_out < 1:
            raise UsageError(f"held_out={self.held_out}: a share of the target's episodes lies in [0, 1)")

    def on(self, rule: Rule) -> Settings:
        """These settings with the rule's own backbone and imitation where none are named."""
        backbone = backbone_of(self, rule)
        return dataclasses.replace(self, backbone=backbone, imitation=imitation_of(self, rule, backbone))

    def evaluation_points(self) -> list[int]:
        """After how many updates the policy is evaluated."""
        return [round(self.updates * (i + 1) / self.evaluations) for i in range(self.evaluations)]

    def stretch(self) -> int:
        """Updates per compiled call: long enough that calls cost nothing, short enough to show and stop."""
        return max(1, min(1000, self.updates // 100))


def backbone_of(settings: Settings, rule: Rule) -> Backbone:
    """The backbone of a run: the settings', or else the rule's own."""
    return settings.backbone or own_backbone(rule)


def own_imitation(rule: Rule, backbone: Backbone, steps: bool = False) -> Imitation:
    """What a rule's policy imitates where the settings say nothing, as far as the backbone can.

    With `steps` in an environment it is all rows alike: those of the best episodes are not known before.
    """
    if steps or not backbone.imitates:
        return LOGGED
    own = rule.imitation if backbone.weighs_imitation else dataclasses.replace(rule.imitation, best=0.0, others=0.0)
    return own if backbone.matches else dataclasses.replace(own, matching=0.0)


def imitation_of(settings: Settings, rule: Rule, backbone: Backbone, stored: bool = False) -> Imitation:
    """What a run's policy imitates: what the settings say, or else the rule's own as far as the backbone can.

    Whether it is held to logged paths is decided where the settings leave it open; `stored` rows have none to draw.
    """
    steps = bool(settings.online.domains)
    imitation = settings.imitation or own_imitation(rule, backbone, steps)
    if imitation.matching is not None:
        return imitation
    # Matching has a share of the weight of imitation: of none it would be nothing, after the fit of a model.
    able = backbone.matches and backbone.clones and not stored and not steps
    pays = able and settings.updates >= ENOUGH_UPDATES
    return dataclasses.replace(imitation, matching=MATCHING if pays else 0.0)


def check_imitation(imitation: Imitation, backbone: Backbone) -> None:
    """Raise `UsageError` for rows to imitate where the policy imitates none, or not in this way."""
    if not imitation.plain and not backbone.imitates:
        raise UsageError(
            f"imitation rows={imitation.rows} best={imitation.best}: the policy of backbone {backbone.name} imitates "
            "no rows; use rows=logged best=0, or another backbone"
        )
    if imitation.matching and not backbone.matches:
        able = ", ".join(name for name, kind in BACKBONES.items() if kind.matches)
        raise UsageError(
            f"imitation matching={imitation.matching:g}: the policy of backbone {backbone.name} cannot be held to "
            f"logged paths; use matching=0, or another backbone ({able})"
        )
    if imitation.best and not backbone.weighs_imitation:
        raise UsageError(
            f"imitation best={imitation.best}: backbone {backbone.name} imitates all rows alike; use best=0, or "
            "another backbone"
        )


def normalisation_of(config: dict[str, Any]) -> str:
    """How a run normalises observations, as `tabb.batch.fit_normaliser` names it.

    A run from before the normaliser was free of units keeps the one that it was begun with.
    """
    settings = settings_from(config)
    old = "pooled-absolute" if settings.normalise == "pooled" else settings.normalise
    return str(config.get("normaliser", old))


def settings_from(config: dict[str, Any]) -> Settings:
    """The settings of a run's config; runs of versions without held-out episodes or copies had neither."""
    return from_plain(Settings, {"held_out": 0.0, "imitation": plain(LOGGED)} | (config.get("settings") or {}))

"""Predictors of the target domain by name, and the settings that runs before them were written with."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from tabb.errors import UsageError
from tabb.models.agreed_shift import AgreedShift
from tabb.models.direct_predictor import DirectPredictor
from tabb.models.latent_predictor import LatentDirectPredictor, LatentPredictor
from tabb.models.residual_predictor import ResidualPredictor
from tabb.models.target_predictor import TargetPredictor

PREDICTORS: dict[str, type[TargetPredictor]] = {
    kind.name: kind
    for kind in (ResidualPredictor, DirectPredictor, LatentPredictor, LatentDirectPredictor, AgreedShift)
}

# --- Before predictors were objects, one class held the constants of all of them ---

_OF_SPACE_AND_FORM: dict[tuple[str, str], type[TargetPredictor]] = {
    ("raw", "residual"): ResidualPredictor,
    ("raw", "direct"): DirectPredictor,
    ("latent", "residual"): LatentPredictor,
    ("latent", "direct"): LatentDirectPredictor,
    ("raw", "agreed"): AgreedShift,
}
_OLD_CONSTANTS: dict[str, Any] = {
    "source_head": True,
    "heads": 5,
    "updates": 5_000,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "weight_decay": 1e-3,
    "input_noise": 0.1,
    "latent_size": 64,
    "hidden": 256,
    "slow_rate": 0.005,
    "target_shares": (1.0, 0.1, 0.0),
    "shift_penalty": 0.01,
}
"""with the defaults that they had"""


def from_old(values: Mapping[str, Any]) -> TargetPredictor:
    """The predictor that the fields of the former `PredictorConfig` stand for; fields without effect on it are dropped.

    Raises `UsageError` for an unknown space or form, and for those that did not go together.
    """
    values = dict(values)
    space, form = values.pop("space", "raw"), values.pop("form", "residual")
    if unknown := [name for name in values if name not in _OLD_CONSTANTS]:
        raise UsageError(f"predictor has no {unknown[0]!r}: it has {', '.join(('space', 'form', *_OLD_CONSTANTS))}")
    for name, value, known in (("space", space, ("raw", "latent")), ("form", form, ("residual", "direct", "agreed"))):
        if value not in known:
            raise UsageError(f"predictor {name}={value!r} is unknown: use {' or '.join(known)}")
    if (space, form) not in _OF_SPACE_AND_FORM:
        raise UsageError("predictor form agreed works on observations: use space raw, or form residual or direct")
    if not values.get("source_head", True) and form != "direct":
        raise UsageError(f"predictor form {form} builds on the source head: without it use form direct")
    kind = _OF_SPACE_AND_FORM[space, form]
    names = {field.name for field in dataclasses.fields(kind)}
    constants = {name: value for name, value in (_OLD_CONSTANTS | values).items() if name in names}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in constants.items()})


def PredictorConfig(space: str = "raw", form: str = "residual", **constants: Any) -> TargetPredictor:
    """The former name of all predictors: gives the one that these constants stand for."""
    predictor = from_old({"space": space, "form": form} | constants)
    warnings.warn(
        f"PredictorConfig: name the predictor itself, here tabb.{type(predictor).__name__}(...)",
        DeprecationWarning,
        stacklevel=2,
    )
    return predictor

"""Settings of rules as earlier versions wrote them, as they are now: runs of then are still read."""

from __future__ import annotations

from typing import Any

from tabb.errors import RunError

OWN_OF_TABB = ("scale", "uncertainty", "predictor")
"""fields of TABB that similarity has no use for"""
AS_THEN: dict[str, Any] = {"uncertainty": 1.0, "predictor": {"name": "residual"}}
"""what TABB was where a run does not say: before the agreed shift was its default"""


def as_of_now(name: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the plain fields of a rule that any version wrote. Raises `RunError` for what is no more."""
    return _tabb(values) if name == "tabb" else (name, values)


def _tabb(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Weights by similarity and noise on V were options of TABB once; they are rules of their own."""
    values = AS_THEN | values
    weigh_by, noise = values.pop("weigh_by", "mismatch"), values.pop("value_noise", 0.0)
    if weigh_by == "mismatch":
        return ("value-noise", values | {"noise": noise}) if noise else ("tabb", values)
    if (values.get("predictor") or {}).get("space") == "latent":
        raise RunError(
            "weigh_by=similarity in a latent space: this version of tabb has no such rule; use an earlier one"
        )
    return "similarity", {name: value for name, value in values.items() if name not in OWN_OF_TABB}

"""Constants of a wrong type are one line, in every rule, backbone, predictor and other object that users make."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jaxtyping
import numpy as np
import pytest

import tabb
from tabb.backbones import BACKBONES
from tabb.behaviours.online_training import OnlineTraining
from tabb.behaviours.random_search import RandomSearch
from tabb.errors import UsageError
from tabb.evaluation.fqe import FQE
from tabb.field_types import TypedFields, check_field_types
from tabb.models.corrective import CorrectiveConfig
from tabb.models.predictors import PREDICTORS
from tabb.models.target_model import TargetModelConfig
from tabb.models.tracking import TrackingConfig
from tabb.rendering.film import FilmFormat
from tabb.rules import RULES

OTHERS = (tabb.Settings, tabb.CVAEConfig, tabb.EnsembleConfig, tabb.SparseQConfig, FQE, FilmFormat)
MODELS = (TargetModelConfig, CorrectiveConfig, TrackingConfig, OnlineTraining, RandomSearch)
KINDS = [*RULES.values(), *BACKBONES.values(), *PREDICTORS.values(), *OTHERS, *MODELS]
WRONG = ("256", b"x", object(), {}, [64, 64], (64, "64"), 2.5, True, np.zeros(2), tabb.Pooled, float("nan"), None)


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Without the tests' own checker of types, which would be first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def fits(wanted: Any, value: object) -> bool:
    """Whether one of the values above may stand in a field, said again and case by case."""
    text = str(wanted)
    if value is None:
        return "None" in text
    if isinstance(value, str):
        return wanted is str  # what is no name of anything is another error, of the class itself
    if isinstance(value, float):
        return "float" in text and "tuple" not in text and value == value
    return value is True and wanted is bool


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_takes_only_its_own_type(kind):
    for field in dataclasses.fields(kind):
        wanted = typing.get_type_hints(kind)[field.name]
        for value in WRONG:
            if fits(wanted, value):
                continue
            with pytest.raises(UsageError, match=field.name) as caught:
                kind(**{field.name: value})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: tabb.IQL(hidden=32), "IQL hidden=32: give a tuple of whole numbers, such as (256, 256)"),
        (lambda: tabb.IQL(hidden=[8]), "IQL hidden=[8] is a list; give a tuple, such as (256, 256)"),
        (lambda: tabb.IQL(batch_size="256"), "IQL batch_size='256': give a whole number"),
        (lambda: tabb.IQL(batch_size=256.0), "IQL batch_size=256.0: give a whole number"),
        (lambda: tabb.IQL(discount="0.9"), "IQL discount='0.9': give a number"),
        (lambda: tabb.IQL(layer_norm="no"), "IQL layer_norm='no': give True or False"),
        (
            lambda: tabb.TABB(predictor="residual"),
            "TABB predictor='residual': give an instance of TargetPredictor, such as AgreedShift()",
        ),
        (
            lambda: tabb.TABB(predictor=tabb.AgreedShift),
            "TABB predictor=AgreedShift: give an instance of TargetPredictor, such as AgreedShift()",
        ),
        (lambda: tabb.TABB(imitate_source="1"), "TABB imitate_source='1': give a number or None"),
        (lambda: tabb.TABB(scale="Source"), "TABB scale='Source' is unknown: use source or target"),
        (lambda: tabb.Settings(updates=1e5), "Settings updates=100000.0: give a whole number"),
        (lambda: tabb.Settings(held_out="0.2"), "Settings held_out='0.2': give a number or None"),
        (lambda: tabb.Settings(episodes=True), "Settings episodes=True: give a whole number"),
    ],
)
def test_lines_say_what_to_give(make, line):
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == line


def test_numbers_of_numpy_and_whole_numbers_for_fractions_pass():
    assert tabb.IQL(batch_size=np.int64(64), discount=np.float32(0.5), temperature=3).batch_size == 64
    assert tabb.Settings(updates=np.int32(5)).updates == 5


def test_types_come_before_the_checks_of_a_rule_of_ones_own():
    @dataclasses.dataclass(frozen=True)
    class Mine(tabb.Rule):
        name: ClassVar[str] = "mine"
        share: float = 0.5

        def __post_init__(self):
            if self.share < 0:
                raise UsageError("share is negative")

    with pytest.raises(UsageError, match="share is negative"):
        Mine(-1)
    with pytest.raises(UsageError, match="Mine share='1': give a number"):
        Mine("1")


def test_annotations_that_say_nothing_are_let_pass_and_the_others_are_not():
    @dataclasses.dataclass
    class Several(TypedFields):
        anything: Any = 1
        call: Callable[[], int] | None = None
        pair: tuple[int, str] = (1, "one")
        word: Literal["a", "b"] | None = None
        named: "Unknown" = 1  # type: ignore[name-defined]  # noqa: F821

    Several(anything=object(), call="x")  # an annotation that cannot be found: none of the class is looked at

    @dataclasses.dataclass
    class Known(TypedFields):
        call: Callable[[], int] | None = None
        pair: tuple[int, str] = (1, "one")
        word: Literal["a", "b"] | None = None

    check_field_types(Known(call=print, pair=(2, "two"), word="a"))
    for wrong in ({"call": "print"}, {"pair": (1,)}, {"pair": (1, 2)}, {"word": "c"}, {"word": 1}):
        with pytest.raises(UsageError, match=f"Known {next(iter(wrong))}="):
            Known(**wrong)

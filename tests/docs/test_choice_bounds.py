"""Bounds of the choice between the source's policy and the target's, by hand."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "docs" / "tools"


@pytest.fixture
def bounds(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("choice_bounds", TOOLS / "choice_bounds.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "choice_bounds", module)
    spec.loader.exec_module(module)
    return module


def test_two_cells(bounds):
    """The target's policy does in the model what its log did, and is good; it falls short of it, and is bad."""
    columns = {
        "alone": [50, 10],
        "held": [50, 10],
        "source": [0, 60],
        "logged": [50, 50],
        "target_model": [50, 10],
        "source_model": [90, 90],
        "target_lost": [0, 0],
        "source_lost": [0, 0],
    }
    found = {name: np.array(values, float) for name, values in columns.items()}
    assert bounds.far_below(found, np.array([False, False])) == 1
    assert bounds.far_below(found, np.array([True, True])) == 1
    assert bounds.far_below(found, np.array([False, True])) == 0
    assert bounds.best_rule(found) == 0
    # Where both look alike in the model, no rule of this form tells them apart.
    assert bounds.best_rule(found | {"target_model": np.array([10.0, 10.0])}) == 1

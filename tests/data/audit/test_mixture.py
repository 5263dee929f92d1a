"""How much of a source log looks like the target: right on mixtures of known share."""

import numpy as np
import pytest

from tabb.data.audit import audit, mixture
from tabb.errors import UsageError


@pytest.fixture
def log(rows):
    """`log(shares)`: so many rows that move by a, and by -a, in one log."""
    generator = np.random.default_rng(0)

    def made(own, other):
        state, action = generator.normal(size=own + other), generator.uniform(-1, 1, size=own + other)
        gain = np.repeat([1.0, -1.0], [own, other])
        return rows(state, action, state + gain * action, np.zeros(own + other))

    return made


def test_the_share_of_a_mixture_is_found(log):
    target = log(1_500, 0)
    # Steps of small actions look alike in both: a tenth of the others at most.
    for own, other in ((0, 3_000), (900, 2_100)):
        share = own / (own + other)
        assert mixture.target_share(log(own, other), target) == pytest.approx(share + 0.05 * (1 - share), abs=0.09)


def test_it_is_a_note_and_needs_rows(log, monkeypatch):
    monkeypatch.setattr(mixture, "target_share", lambda source, target: 0.123)
    (found,) = mixture.check_mixture("a and b", log(60, 0), log(60, 0))
    assert (found.level, found.code) == ("note", "mixture")
    assert found.what == "12% of the source's steps look like the target's"
    assert list(mixture.check_mixture("a and b", log(60, 0), log(20, 0))) == []


def test_it_asks_for_a_pair():
    with pytest.raises(UsageError, match="mixture: asks how much of a source looks like a target"):
        audit(source="a.hdf5", mixture=True)

"""Which source rows the target bears out: a run whose trust is the simulator's own answer, or its opposite."""

import numpy as np
import pytest

from tabb.backbones import IQL
from tabb.data.catalogue import resolve
from tabb.experiments import borne_out as module
from tabb.experiments.borne_out import HALF, BorneOut, borne_out, draw, in_words
from tabb.models.imitation import LOGGED
from tabb.results.row_scores import scores_of
from tabb.rules import TABB
from tabb.training import Settings
from tabb.training.from_files import train_spec
from tabb.training.spec import RunSpec

TASK = "hopper-gravity-0.5"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run on the bundled data."""
    folder = tmp_path_factory.mktemp("run")
    files = [tuple(map(str, resolve("bundled", TASK, domain))) for domain in ("source", "target")]
    settings = Settings(updates=20, evaluations=0, imitation=LOGGED, source_rows=600, target_rows=400)
    backbone = IQL(hidden=(8, 8), batch_size=16, policies=1)
    train_spec(RunSpec(TABB(**TABB.small), backbone, *files, TASK, None, 0, settings), folder, progress="none")
    return folder / "seed0"


@pytest.mark.slow
def test_trust_is_judged_by_the_simulator(run, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ROWS", 200)
    found = borne_out(run)
    assert found.task == TASK
    for curve in (found.trust, found.likeness, found.truth):
        assert curve[-1] == pytest.approx(1.0)  # all rows kept
    # No measure is better than the errors themselves.
    assert (found.truth <= found.trust + 1e-12).all()
    assert (found.truth <= found.likeness + 1e-12).all()

    def told(better):
        """Trust that is the truth, or its opposite."""

        def scores(opened, origin):
            task, rows = module.get_task(TASK), opened.source.transitions
            every = np.arange(len(rows))
            error = module.own_error(opened, task, every, module.ask_target(task, rows))
            given = scores_of(opened, origin)
            return given._replace(columns=given.columns | {"tbm_plus": error if better else -error})

        return scores

    for better, correlation in ((True, 1.0), (False, -1.0)):
        monkeypatch.setattr(module, "scores_of", told(better))
        again = borne_out(run)
        assert again.correlations[0] == pytest.approx(correlation, rel=1e-4)  # rounding may exchange two ranks
        assert again.likeness == pytest.approx(found.likeness)
        if better:
            assert again.trust == pytest.approx(again.truth)
    draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_finding_in_words():
    curve = np.linspace(0.1, 1.0, 20)
    said = in_words(BorneOut(TASK, curve, 2 * curve, curve, (0.0, 0.0)))
    assert f"trusts most has {curve[HALF]:.2f} times" in said
    assert f"most like target rows has {2 * curve[HALF]:.2f} times" in said

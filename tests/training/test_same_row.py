"""Runs that a table would show as seeds of one method are one method: else the folder is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import tabb
from tabb.errors import RunError
from tabb.plain import plain
from tabb.training.folder import RunFolder
from tabb.training.same_row import check_same_row, check_seeds_alike
from tabb.training.spec import RunSpec

SETTINGS = tabb.Settings(
    updates=5,
    evaluations=1,
    backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8),
    imitation=tabb.Imitation(best=0.8),
)
SPEC = RunSpec(tabb.Pooled(), SETTINGS.backbone, ("/s",), ("/t",), None, None, 1, SETTINGS)


def config(rule: tabb.Rule = tabb.Pooled(), env: str | None = None, data: str = "abc", **changes) -> dict:  # noqa: B008
    return {
        "rule": plain(rule),
        "settings": plain(dataclasses.replace(SETTINGS, **changes)),
        "task": None,
        "data": {"source": "s", "target": data},
        "origin": {"source": {"files": ["/s"]}, "target": {"files": ["/t"]}, "env": env},
    }


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (config(updates=6), "settings updates"),
        (config(backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8, discount=0.9)), "settings backbone"),
        (config(env="Pendulum-v1"), "env"),
        (config(rows_seed=4), None),  # rows that the seed draws
        (config(tabb.TargetOnly(), updates=6), None),  # another row
        (config(), None),
    ],
)
def test_other_settings_and_environments(there: dict, says: str | None, tmp_path: Path) -> None:
    RunFolder(tmp_path / "pooled" / "seed0").start(there)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('["of another program"]')
    checks = (lambda: check_same_row(tmp_path, SPEC), lambda: check_seeds_alike(tmp_path / "pooled", config(), [1]))
    for check in checks:
        if says is None:
            check()
            continue
        with pytest.raises(
            RunError, match=rf"seed0: is a run of pooled that differs in {says}, and .*; choose another folder"
        ):
            check()


def test_other_data(tmp_path: Path) -> None:
    RunFolder(tmp_path / "seed0").start(config(data="xyz", target_rows=20, rows_seed=0))
    with pytest.raises(RunError, match="differs in target data"):
        check_same_row(tmp_path, dataclasses.replace(SPEC, target=("/u",), settings=_limited(0)))
    with pytest.raises(RunError, match="differs in target data"):
        check_seeds_alike(tmp_path, config(target_rows=20, rows_seed=0), [1])
    # Another draw of the same rows, as in the ablations; and the run itself.
    check_seeds_alike(tmp_path, config(target_rows=20, rows_seed=1), [1])
    check_seeds_alike(tmp_path, config(target_rows=20, rows_seed=0), [0])


def _limited(rows_seed: int) -> tabb.Settings:
    return dataclasses.replace(SETTINGS, target_rows=20, rows_seed=rows_seed)


@pytest.mark.slow
def test_from_python(tmp_path: Path, pair) -> None:
    source, target = pair
    tabb.train(tabb.Pooled(), source, target, settings=SETTINGS, folder=tmp_path)
    longer = dataclasses.replace(SETTINGS, updates=6)
    with pytest.raises(RunError, match="settings updates"):
        tabb.train(tabb.Pooled(), source, target, settings=longer, seeds=[1], folder=tmp_path)
    with pytest.raises(RunError, match="differs in source data"):
        tabb.train(tabb.Pooled(), source[:900], target, settings=SETTINGS, seeds=[1], folder=tmp_path)
    assert not (tmp_path / "seed1").exists()
    tabb.train(tabb.Pooled(), source, target, settings=SETTINGS, seeds=[1], folder=tmp_path)

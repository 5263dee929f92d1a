"""`tabb figure`: the figures made of cells on the bundled data, their record, and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import tabb
from tabb.backbones import IQL
from tabb.batch import Sizes, make_domains
from tabb.cli import main
from tabb.data.catalogue import find
from tabb.errors import RunError
from tabb.experiments.oracle import learned_value, value_file
from tabb.provenance import fingerprint
from tabb.rules import Pooled
from tabb.training.checkpoint import load_tree, save_tree

SMALL = [
    *("--tasks", "hopper-gravity-0.5", "--source", "bundled", "--target", "bundled", "--updates", "20"),
    *("--rows", "60", "--tabb.predictor.updates", "5", "--tabb.predictor.hidden", "8"),
    *("--rankings", "tbm", "nearest", "one-step", "--no-layer-norm"),
]


@pytest.fixture
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`oracle(*more arguments)`: exit code, output and errors of `tabb figure oracle` into one folder."""
    monkeypatch.delenv("TABB_DATA", raising=False)

    def run(*more: str) -> tuple[int, str, str]:
        code = main(["figure", "oracle", *SMALL, "--out", str(tmp_path / "oracle"), *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.slow
def test_oracle_figure(oracle, tmp_path: Path) -> None:
    values = tmp_path / "oracle" / "values"
    code, out, err = oracle("--seeds", "0")
    assert code == 0, err
    assert "| ranking | hopper-gravity-0.5 | mean |" in out
    result = json.loads((tmp_path / "oracle" / "hopper-gravity-0.5-seed0.json").read_text())
    assert result["rows"] == 60
    assert set(result["rank_correlation"]) == {"tbm", "nearest", "one-step"}
    # All rows kept: the mean over all, whatever the ranking; and no ranking keeps better rows than the error itself.
    for curve in result["kept_error"].values():
        assert curve[-1] == pytest.approx(result["oracle_error"]["mean"])
        assert all(found >= best - 1e-12 for found, best in zip(curve, result["least_kept_error"], strict=True))
    assert np.all(np.diff(result["least_kept_error"]) >= -1e-12)
    assert (tmp_path / "oracle" / "oracle.png").stat().st_size > 5_000

    # What is there is read, not computed again; a second seed is one more cell, with the same settings.
    code, again, err = oracle("--seeds", "0")
    assert (code, again, err) == (0, out, "")
    # V is kept beside the results, so that other rankings need no training.
    (tmp_path / "oracle" / "hopper-gravity-0.5-seed0.json").unlink()
    code, again, err = oracle("--seeds", "0")
    assert (code, again) == (0, out)
    assert "V of pooled IQL" not in err
    # So is one from before its backbone had all the constants of today.
    cell, kept = tmp_path / "oracle" / "hopper-gravity-0.5-seed0.json", value_file(values, "hopper-gravity-0.5", 0)
    template = IQL().init(Pooled(), Sizes(11, 3), 20, jax.random.key(0)).value
    value, header = load_tree(kept, template)
    assert not header["backbone"].pop("layer_norm")
    save_tree(kept, value, header)
    cell.unlink()
    code, again, err = oracle("--seeds", "0")
    assert (code, again) == (0, out)
    assert "V of pooled IQL" not in err
    # V with layer normalisation is another.
    assert oracle("--seeds", "0", "--layer-norm")[0] == 4
    cell.unlink()
    code, _, err = oracle("--seeds", "0", "--layer-norm")
    assert (code, "holds a value function of other data, updates" in err) == (4, True)
    kept.unlink()
    code, normed, _ = oracle("--seeds", "0", "--layer-norm")
    assert code == 0
    assert normed != out
    assert json.loads(cell.read_text())["settings"]["layer_norm"]
    cell.unlink()
    kept.unlink()
    assert oracle("--seeds", "0")[:2] == (0, out)

    # Said before the cell that is missing is computed.
    code, _, err = oracle("--seeds", "0", "1", "--rows", "61", "--jobs", "1")
    assert code == 4
    assert "computed with other settings" in err
    assert "seed 1" not in err


@pytest.mark.slow
def test_cells_run_as_processes(oracle, tmp_path: Path) -> None:
    code, out, err = oracle("--seeds", "0", "1", "--jobs", "2")
    assert code == 0, err
    assert "mean over 2 seed(s)" in out
    assert {file.name for file in (tmp_path / "oracle").glob("*.json")} == {
        f"hopper-gravity-0.5-seed{seed}.json" for seed in (0, 1)
    }


@pytest.mark.slow
def test_transfer_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    out, values = tmp_path / "transfer", tmp_path / "values"
    command = ["figure", "transfer", *SMALL[:-4], "--horizon", "5", "--seeds", "0", "--out", str(out)]
    assert main([*command, "--values", str(values)]) == 0
    captured = capsys.readouterr()
    assert "V of pooled IQL" in captured.err
    assert not (out / "values").exists()
    assert "| nearest | return gap |" in captured.out
    result = json.loads((out / "hopper-gravity-0.5-seed0.json").read_text())
    assert (result["rows"], len(result["tenths"]["tbm+"]["gap"])) == (60, 10)
    assert all(np.diff(row).min() >= 0 for row in result["tenths"]["nearest"]["oracle_error"])
    assert (out / "transfer.png").stat().st_size > 5_000

    # What is there is read; V that was kept is not trained again.
    (out / "hopper-gravity-0.5-seed0.json").unlink()
    for computed in (True, False):
        assert main([*command, "--values", str(values)]) == 0
        again = capsys.readouterr()
        assert again.out == captured.out
        assert ("simulator" in again.err) == computed
        assert "V of pooled IQL" not in again.err
    assert main([*command, "--horizon", "6"]) == 4
    assert "computed with other settings" in capsys.readouterr().err
    # V of other data is refused, though its file has the right name.
    source, target = (
        tabb.load(find("hopper-gravity-0.5", "bundled", domain)[0])[:200] for domain in ("source", "target")
    )
    with pytest.raises(RunError, match="holds a value function of other data, updates"):
        learned_value(
            make_domains(source, target),
            {"source": fingerprint(source), "target": fingerprint(target)},
            20,
            0,
            value_file(values, "hopper-gravity-0.5", 0),
            lambda what, share: None,
        )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["figure"], 2, "name the figure: oracle"),
        (["figure", "--rows", "5"], 2, "name the figure: oracle"),
        (["figure", "orcale"], 2, "unknown figure 'orcale': use one of oracle"),
        (["figure", "oracle", "--rankings", "luck"], 2, "--rankings luck: use some of tbm, tbm+"),
        (["figure", "oracle", "--rows", "0"], 2, "--rows 0"),
        (["figure", "oracle", "--tasks", "nowhere"], 2, "unknown task"),
        (["figure", "oracle", "--tasks", "hopper-morph", "--seeds", "0"], 3, "TABB_DATA is not set"),
        (["figure", "oracle", "--tabb.temperature", "-1"], 2, "must be positive"),
        (["figure", "transfer", "--horizon", "0"], 2, "--horizon 0: must be at least 1"),
        (["figure", "transfer", "--rows", "9"], 2, "--rows 9: must be at least 10"),
        (["figure", "transfer", "--rankings", "tbm"], 2, "--rankings"),
    ],
)
def test_one_line_errors(
    arguments: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    found = main(arguments)
    err = capsys.readouterr().err
    assert err.startswith("tabb: error: ")
    assert len(err.strip().splitlines()) == 1
    assert says in err
    assert found == code
    assert not Path("runs").exists()

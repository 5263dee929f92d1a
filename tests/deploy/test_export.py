"""Exported files act as the policy does, in programs that have no tabb; docs/export.md holds what it says."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import onnx
import onnxruntime
import pytest

import tabb
from tabb.action_bounds import ActionBounds
from tabb.errors import RunError, UsageError
from tabb.policy import Policy

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
BATCHES = (1, 2, 33, 400)
every = pytest.mark.parametrize("kind", ["policy", "several", "candidates"])


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def lines_of(name: str) -> str:
    """The documentation's lines of that name."""
    (found,) = re.findall(rf"^```python {name}\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folders(policies, draw, tmp_path_factory) -> dict[str, Path]:
    """A folder for each kind of policy, with its files in all formats and observations."""
    made = {}
    for kind, policy in policies.items():
        made[kind] = folder = tmp_path_factory.mktemp(kind)
        policy.save(folder / "policy.npz")
        for format in ("onnx", "stablehlo", "npz"):
            assert tabb.export(folder, format) == folder / f"policy.{format}"
        np.savez(folder / "observations.npz", **{str(rows): draw(rows) for rows in BATCHES})
    return made


# --- ONNX ---


@every
@pytest.mark.parametrize("rows", [0, *BATCHES])
def test_onnx_acts_as_the_policy(kind, rows, policies, folders, draw, agree):
    (actions,) = session_of(folders[kind] / "policy.onnx").run(["action"], {"observation": draw(rows)})
    agree(policies[kind], draw(rows), actions)


@every
def test_onnx_is_of_the_promised_version_and_says_where_it_comes_from(kind, policies, folders):
    model = onnx.load(folders[kind] / "policy.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version, len(model.opset_import)) == (7, 13, 1)
    assert (model.producer_name, model.producer_version) == ("tabb", tabb.__version__)
    session = session_of(folders[kind] / "policy.onnx")
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("observation", ["batch", 5], "tensor(float)")
    assert (returned.name, returned.shape, returned.type) == ("action", ["batch", 2], "tensor(float)")
    assert json.loads(session.get_modelmeta().custom_metadata_map["about"]) == policies[kind].about


@every
@pytest.mark.parametrize("entry", range(5))
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_onnx_gives_no_action_where_an_observation_is_not_finite(kind, entry, number, policies, folders, draw, agree):
    observations = draw(4)
    observations[1, entry] = number
    (actions,) = session_of(folders[kind] / "policy.onnx").run(None, {"observation": observations})
    assert np.isnan(actions[1]).all()
    kept = [0, 2, 3]
    agree(policies[kind], observations[kept], actions[kept])


# --- StableHLO ---

READ = 'observation = __import__("numpy").load("observations.npz")["33"][4]\n'

USE_ALL = """
given = dict(np.load("observations.npz"))
del given["400"]
results = {rows: np.asarray(act(x)) for rows, x in given.items()}
bad = given["33"].copy()
bad[5, 2], bad[7, 0] = np.nan, -np.inf
results["bad"] = np.asarray(act(bad))
try:
    act(given["1"][:0])
except ValueError as error:
    assert ">= 1" in str(error)
else:
    raise AssertionError("an empty batch")
assert jax.export.deserialize(Path("policy.stablehlo").read_bytes()).platforms == ("cpu", "cuda")
np.savez("results.npz", one=action, about=json.dumps(about), **results)
"""


@pytest.mark.parametrize("kind", ["policy", pytest.param("several", marks=pytest.mark.slow), "candidates"])
def test_stablehlo_acts_as_the_policy_in_another_process(kind, policies, folders, draw, agree, without_tabb):
    without_tabb(folders[kind], READ + lines_of("stablehlo") + USE_ALL)
    with np.load(folders[kind] / "results.npz") as results:
        agree(policies[kind], draw(33)[4:5], results["one"][None])
        for rows in (1, 2, 33):
            agree(policies[kind], draw(rows), results[str(rows)])
        assert json.loads(str(results["about"])) == policies[kind].about
        good = np.ones(33, bool)
        good[[5, 7]] = False
        assert np.isnan(results["bad"][~good]).all()
        agree(policies[kind], draw(33)[good], results["bad"][good])


def test_the_file_beside_stablehlo(policies, folders):
    told = json.loads((folders["policy"] / "policy.stablehlo.json").read_text())
    exported = jax.export.deserialize((folders["policy"] / "policy.stablehlo").read_bytes())
    assert told.pop("about") == policies["policy"].about
    assert told == {
        "format": "tabb-stablehlo-1",
        "tabb": tabb.__version__,
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        "platforms": ["cpu", "cuda"],
        "observation_size": 5,
        "action_size": 2,
    }


# --- the documentation's lines, alone ---

WRITE = 'np.savez("result.npz", one=action, about=json.dumps(about))\n'


@pytest.mark.parametrize(("name", "kind"), [("npz", "policy"), ("npz", "several"), ("npz-candidates", "candidates")])
def test_numpy_lines(name, kind, policies, folders, draw, agree, without_tabb):
    about = "" if name == "npz" else 'import json\nabout = json.loads(str(p["header"]))["about"]\n'
    script = READ + lines_of(name) + about + "action = act(observation)\n" + WRITE
    without_tabb(folders[kind], script, "jax", "onnx", "onnxruntime", "scipy")
    with np.load(folders[kind] / "result.npz") as result:
        agree(policies[kind], draw(33)[4:5], result["one"][None])
        assert json.loads(str(result["about"])) == policies[kind].about


@pytest.mark.parametrize("kind", ["policy", "several"])
def test_numpy_lines_take_batches(kind, policies, folders, draw, agree, without_tabb):
    script = lines_of("npz") + 'np.savez("batch.npz", **{k: act(x) for k, x in np.load("observations.npz").items()})\n'
    without_tabb(folders[kind], script, "jax")
    with np.load(folders[kind] / "batch.npz") as result:
        for rows in BATCHES:
            agree(policies[kind], draw(rows), result[str(rows)])


@every
def test_onnx_lines(kind, policies, folders, draw, agree, without_tabb):
    without_tabb(folders[kind], READ + lines_of("onnx") + WRITE, "jax", "onnx")
    with np.load(folders[kind] / "result.npz") as result:
        agree(policies[kind], draw(33)[4:5], result["one"][None])
        assert json.loads(str(result["about"])) == policies[kind].about


def test_no_lines_of_the_documentation_are_left_out():
    names = re.findall(r"^```python(.*)$", DOCS.read_text(), re.MULTILINE)
    assert sorted(name.strip() for name in names) == ["npz", "npz-candidates", "onnx", "stablehlo"]


# --- ONNX and StableHLO alike, in small policies whose answer is known ---


def run_exported(policy: Policy, format: str, folder: Path, observations: np.ndarray) -> np.ndarray:
    file = tabb.export(policy, format, folder / f"policy.{format}")
    if format == "onnx":
        return session_of(file).run(["action"], {"observation": observations})[0]
    return np.asarray(jax.export.deserialize(file.read_bytes()).call(observations))


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_infinity_is_no_full_action(format, tmp_path):
    """The network alone would answer infinity with tanh(infinity) = 1."""
    ones = (np.ones((2, 1), np.float32), np.ones((1, 1), np.float32))
    policy = Policy(np.zeros(2, np.float32), np.ones(2, np.float32), ones, (np.zeros(1, np.float32),) * 2)
    given = np.array([[np.inf, 1.0], [0.25, 0.25], [-np.inf, 0.0], [9.0, 9.0]], np.float32)
    actions = run_exported(policy, format, tmp_path, given)
    np.testing.assert_allclose(actions, [[np.nan], [np.tanh(0.5)], [np.nan], [1.0]], atol=1e-6)


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_actions_stay_inside_their_bounds(format, tmp_path):
    """The tanh of onnxruntime 1.32 alone reaches 1.0000001."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    policy = Policy(zero, one, (np.ones((1, 1), np.float32),), (zero,))
    given = np.linspace(-40, 40, 100_001, dtype=np.float32)[:, None]
    actions = run_exported(policy, format, tmp_path, given)
    assert np.abs(actions).max() == 1
    np.testing.assert_allclose(actions, policy.act(given), rtol=0, atol=1e-6)


@pytest.mark.parametrize("format", ["onnx", "stablehlo", "npz"])
@every
def test_actions_are_scaled_to_their_bounds(kind, format, policies, draw, agree, tmp_path):
    bounds = ActionBounds((-2.0, 0.0), (0.5, 1.0))
    policy = dataclasses.replace(policies[kind], action_bounds=bounds)
    if format == "npz":
        again = Policy.load(tabb.export(policy, format, tmp_path / "policy.npz"))
        assert again.action_bounds == bounds
        actions = again.act(draw(33))
    else:
        actions = run_exported(policy, format, tmp_path, draw(33))
        assert np.isnan(run_exported(policy, format, tmp_path, draw(2) * np.float32(np.inf))).all()
    agree(policy, draw(33), actions)
    agree(policies[kind], draw(33), bounds.scaled(actions))
    assert ((actions >= bounds.low) & (actions <= bounds.high)).all()


def test_numpy_lines_scale_back(policies, draw, without_tabb, tmp_path):
    """Also where float32 rounds a bound, and where a full action reaches it."""
    policy = dataclasses.replace(policies["policy"], action_bounds=ActionBounds((-0.3, 1000.0), (0.7, 1000.1)))
    policy.save(tmp_path / "policy.npz")
    observations = np.concatenate([draw(33), 1e6 * draw(33, 2)])
    np.save(tmp_path / "observations.npy", observations)
    without_tabb(tmp_path, lines_of("npz") + 'np.save("a.npy", act(np.load("observations.npy")))\n', "jax")
    actions = np.load(tmp_path / "a.npy")
    assert (np.abs(actions - policy.act(observations)) <= [1e-6, np.spacing(np.float32(1000))]).all()
    low, high = policy.action_bounds.as_float32()
    assert ((actions >= low) & (actions <= high)).all()


@pytest.mark.parametrize(
    ("kind", "format"),
    [("policy", "onnx"), ("several", "onnx"), ("candidates", "onnx"), ("policy", "stablehlo")],
)
def test_where_networks_overflow_there_is_no_action(kind, format, policies, draw, tmp_path):
    policy = dataclasses.replace(policies[kind], action_bounds=ActionBounds((-2.0, 0.0), (0.5, 1.0)))
    observations = draw(2)
    observations[1, 2] = 3e38
    with pytest.raises(UsageError, match="networks overflow"):
        policy.act(observations)
    actions = run_exported(policy, format, tmp_path, observations)
    assert np.isnan(actions[1]).all()
    assert np.isfinite(actions[0]).all()


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_of_equal_candidates_the_first(format, policies, draw, tmp_path):
    values = tuple(np.zeros_like(weight) for weight in policies["candidates"].critic[0])
    policy = dataclasses.replace(policies["candidates"], critic=(values, policies["candidates"].critic[1]))
    last = dataclasses.replace(policy, latents=policy.latents[::-1].copy())
    wanted = policy.act(draw(3))
    assert np.abs(wanted - last.act(draw(3))).max() > 0.01
    np.testing.assert_allclose(run_exported(policy, format, tmp_path, draw(3)), wanted, rtol=0, atol=1e-6)


# --- where it reads and writes ---


@every
def test_npz_is_the_policy_file(kind, policies, folders, draw, tmp_path):
    file = folders[kind] / "policy.npz"
    before = file.stat()
    assert tabb.export(file, "npz") == file
    assert tabb.export(folders[kind], "npz", file) == file
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    out = tabb.export(str(folders[kind]), "npz", str(tmp_path / "copy.npz"))
    assert Policy.load(out).act(draw(9)).tobytes() == policies[kind].act(draw(9)).tobytes()


def test_a_policy_in_memory(policies, tmp_path, draw, agree):
    tabb.export(policies["policy"], "onnx", tmp_path / "mine.onnx")  # is replaced
    out = tabb.export(policies["policy"], "onnx", tmp_path / "mine.onnx")
    agree(policies["policy"], draw(3), session_of(out).run(None, {"observation": draw(3)})[0])
    assert [file.name for file in tmp_path.iterdir()] == ["mine.onnx"]
    with pytest.raises(UsageError, match="name the file to write"):
        tabb.export(policies["policy"], "onnx")


def test_wrong_formats_and_names(policies, folders, tmp_path):
    for format, out, says in (
        ("tflite", None, "unknown format 'tflite': use one of onnx, stablehlo, npz"),
        ("onnx", tmp_path, "is a folder; name a file in it, such as .*policy.onnx"),
        ("onnx", folders["policy"] / "policy.npz", "format onnx must end in .onnx"),
        ("stablehlo", tmp_path / "policy.onnx", "format stablehlo must end in .stablehlo"),
        ("npz", tmp_path / "policy", "format npz must end in .npz"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            tabb.export(folders["policy"], format, out)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert Policy.load(folders["policy"]).about == policies["policy"].about


@pytest.mark.parametrize("format", ["onnx", "stablehlo", "npz"])
def test_where_nothing_can_be_written(format, policies, tmp_path):
    for out in (tmp_path / "missing" / f"a.{format}", tmp_path / "file" / f"a.{format}"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(RunError, match="cannot be written"):
            tabb.export(policies["policy"], format, out)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_is_no_finished_run(tmp_path):
    unfinished = tmp_path / "seed0"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    (tmp_path / "text.npz").write_text("hello")
    for path, says in (
        (unfinished, f"is not finished; finish it with `tabb train --resume {unfinished}`"),
        (tmp_path, "is a folder without a policy"),
        (tmp_path / "text.npz", "is not a tabb policy or is damaged"),
        (tmp_path / "nothing.npz", "no such policy"),
    ):
        with pytest.raises(RunError, match=re.escape(says)):
            tabb.export(path, "npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnx"), ("stablehlo", "flatbuffers")])
def test_missing_extra(format, package, policies, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself does with a package that is not there
    with pytest.raises(UsageError, match=re.escape('pip install "tabb-rl[export]"')):
        tabb.export(policies["policy"], format, tmp_path / f"policy.{format}")
    tabb.export(policies["policy"], "npz", tmp_path / "policy.npz")


def test_half_a_stablehlo_export_is_never_taken_for_a_whole_one(policies, tmp_path, monkeypatch):
    """The program takes its name last: where that is cut off, there is none, an older one neither."""
    out = tabb.export(policies["policy"], "stablehlo", tmp_path / "mine.stablehlo")
    real = os.replace

    def cut_off(part, path):
        if Path(path) == out:
            raise KeyboardInterrupt
        real(part, path)

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tabb.export(policies["several"], "stablehlo", out)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.stablehlo.json"]

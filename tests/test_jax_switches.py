"""What other programs set: JAX's switches, Matplotlib's backend, the encoding of the terminal."""

import io
import json
import os
import subprocess
import sys

import jax
import pytest

import tabb
from tabb.cli import main
from tabb.errors import UsageError
from tabb.jax_switches import RECORDED, check_as_before, check_switches, fault_of, switches
from tabb.provenance import environment

SETTINGS = tabb.Settings(updates=2, evaluations=1, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8))


@pytest.fixture
def switch():
    """Set a switch for one test."""
    before = {}

    def set_to(name, value):
        before.setdefault(name, jax.config.values[name])
        jax.config.update(name, value)

    yield set_to
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_usual_switches_are_well():
    check_switches()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_disable_jit", True),
        ("jax_numpy_rank_promotion", "raise"),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_no_execution", True),
    ],
)
def test_a_switch_that_training_cannot_work_with_is_named(pair, switch, name, value):
    switch(name, value)
    with pytest.raises(UsageError, match=f"{name.upper()}={value}: tabb does not work with it; unset it"):
        tabb.train(tabb.TargetOnly(), None, pair[1], settings=SETTINGS)


def test_switches_that_change_a_run_are_recorded():
    assert environment()["jax"] == switches()
    assert (
        {"jax_default_prng_impl", "jax_enable_x64", "jax_default_matmul_precision"} <= set(switches()) <= set(RECORDED)
    )
    assert json.loads(json.dumps(switches())) == switches()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("jax_default_prng_impl", "rbg", marks=pytest.mark.slow),
        ("jax_random_seed_offset", 1),
        pytest.param("jax_default_matmul_precision", "float32", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_resumed_under_the_switches_that_it_was_started_with(pair, tmp_path, switch, name, value):
    options = {"settings": SETTINGS, "folder": tmp_path}
    tabb.train(tabb.TargetOnly(), None, pair[1], **options)
    (tmp_path / "seed0" / "result.json").unlink()
    usual = jax.config.values[name]
    switch(name, value)
    with pytest.raises(
        UsageError, match=f"started with {name}={usual}, and now it is {value}.*{name.upper()} as it was"
    ):
        tabb.train(tabb.TargetOnly(), None, pair[1], resume=True, **options)
    switch(name, usual)
    tabb.train(tabb.TargetOnly(), None, pair[1], resume=True, **options)


def test_a_run_of_an_earlier_version_recorded_no_switches(pair, tmp_path):
    options = {"settings": SETTINGS, "folder": tmp_path}
    tabb.train(tabb.TargetOnly(), None, pair[1], **options)
    config = json.loads((tmp_path / "seed0" / "config.json").read_text())
    del config["environment"]["jax"]
    (tmp_path / "seed0" / "config.json").write_text(json.dumps(config))
    tabb.train(tabb.TargetOnly(), None, pair[1], resume=True, **options)
    check_as_before({"jax_of_another_version": 3}, "here")


def test_errors_of_other_places_are_no_switch(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ValueError, match="mine") as caught:
        raise ValueError("mine")
    assert fault_of(caught.value) is None


@pytest.mark.parametrize(
    ("name", "value"), [("JAX_PLATFORMS", "cuda"), ("JAX_PLATFORMS", "gpu"), ("JAX_ENABLE_X64", "perhaps")]
)
def test_a_platform_that_is_not_here_is_one_line(name, value):
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is one here")
    done = subprocess.run(
        [sys.executable, "-m", "tabb", "train", "target-only", "--updates", "1", "--out", "/nowhere"],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"tabb: error: {name}={value}: JAX does not start with it" in done.stderr.splitlines()[-1]
    assert "unset it" in done.stderr.splitlines()[-1]


# --- Matplotlib ---

FIGURE = """
import os, sys
from pathlib import Path
from tabb.evaluation.figures import new_figure, save_png
save_png(new_figure(figsize=(1, 1)), Path(sys.argv[1]))
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.rcParams._get("backend"))
"""


@pytest.mark.parametrize("backend", ["module://of_a_notebook.elsewhere", "no-backend-at-all", "svg"])
def test_the_backend_of_a_notebook_is_out_of_sight(tmp_path, backend):
    done = subprocess.run(
        [sys.executable, "-c", FIGURE, str(tmp_path / "a.png")],
        env=os.environ | {"MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    seen, kept = done.stdout.split()[0], done.stdout.split()[-1]
    assert seen == backend  # as it was, for whoever else looks
    if backend == "svg":
        assert kept == "svg"


# --- Terminals ---


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_output_that_is_not_utf_8(monkeypatch, encoding, tmp_path):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    code = main(["audit", str(tmp_path / "größe-\u4e2d-\udcff.hdf5")])
    print("±")
    for stream in streams.values():
        stream.flush()
    written = b"".join(stream.buffer.getvalue() for stream in streams.values())
    assert code == 3
    assert b"\\u4e2d" in written
    assert b"\\udcff" in written

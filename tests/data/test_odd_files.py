"""Odd and malformed files: each is refused in one line that says what and where, or loaded rightly.

Never a traceback, a hang, memory that the data do not need, or code that runs because a file says so.
"""

import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import tabb.data
from tabb.data import from_arrays, load, read
from tabb.errors import DataError, DataWarning

BUNDLED = Path(tabb.data.__file__).parent / "bundled" / "hopper_gravity_0.5_medium.hdf5"
MEMORY = 4_000_000  # what loading a tiny file may take

quick = settings(
    derandomize=True, max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
thorough = settings(quick, max_examples=1000)


def put(key, value=None, **options):
    """An edit of a file: the dataset `key` made anew, from `value` and with HDF5's options."""

    def edit(file):
        data = file[key][()] if value is None and "shape" not in options else value
        del file[key]
        if isinstance(data, h5py.Empty):
            file[key] = data
        else:
            file.create_dataset(key, **(options if "shape" in options else {"data": data} | options))

    return edit


def each(change):
    """An edit of the file that makes every dataset anew."""

    def edit(file):
        for key in list(file):
            data = change(file[key][()])
            del file[key]
            file[key] = data

    return edit


def link(key, where):
    def edit(file):
        if key in file:
            del file[key]
        file[key] = where

    return edit


def external_rows(file):
    Path(file.filename).with_name("raw.bin").write_bytes(bytes(12 * 4))
    del file["rewards"]
    file.create_dataset("rewards", (12,), "f4", external=[("raw.bin", 0, 48)])


def virtual_rows(file):
    layout = h5py.VirtualLayout((12,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.hdf5", "rewards", (12,))
    del file["rewards"]
    file.create_virtual_dataset("rewards", layout)


def renamed_link(target):
    def edit(file):
        file.move("rewards", "kept")
        file["rewards"] = h5py.SoftLink(target)

    return edit


def circle(file):
    del file["rewards"]
    file["rewards"] = h5py.SoftLink("/other")
    file["other"] = h5py.SoftLink("/rewards")


def through(file):
    """A soft link whose path leads through another file."""
    del file["rewards"]
    file["door"] = h5py.ExternalLink("elsewhere.hdf5", "/")
    file["rewards"] = h5py.SoftLink("/door/rewards")


def named_type(file):
    del file["rewards"]
    file["rewards"] = np.dtype("f4")


def group(file):
    del file["rewards"]
    file["rewards/x"] = np.zeros(12)


def drop(*keys):
    def edit(file):
        for key in keys:
            del file[key]

    return edit


def attributes(**values):
    def edit(file):
        file.attrs.update(values)

    return edit


def many_keys(file):
    for i in range(500):
        file[f"infos_{i}"] = i
    del file["rewards"]


compound = np.zeros(12, [("value", "f4"), ("time", "f8")])

# what is done to a good file of 12 rows -> words of the refusal
REFUSED_HDF5 = {
    "compound": (put("rewards", compound), "rewards: holds .* values, not numbers"),
    "array type": (put("rewards", shape=(12,), dtype=np.dtype(("f4", (3,)))), "rewards: holds"),
    "bytes": (put("rewards", np.full(12, b"1.0")), "rewards: holds |S3 values, not numbers"),
    "variable text": (put("rewards", ["1.0"] * 12, dtype=h5py.string_dtype()), "rewards: holds object"),
    "ragged rows": (put("rewards", shape=(12,), dtype=h5py.vlen_dtype("f4")), "rewards: holds object"),
    "references": (put("rewards", shape=(12,), dtype=h5py.ref_dtype), "rewards: holds object"),
    "opaque": (put("rewards", shape=(12,), dtype="V7"), "rewards: holds"),
    "complex": (put("actions", np.zeros((12, 2), complex)), "actions: holds complex128"),
    "complex of zero rows": (put("actions", np.zeros((0, 2), complex)), "actions: holds complex128"),
    "no dataspace": (put("rewards", h5py.Empty("f4")), "rewards: holds"),
    "scalar": (put("rewards", 1.0), r"rewards: has shape \(\)"),
    "group": (group, "rewards: is a group"),
    "named type": (named_type, "rewards: is a type"),
    "external link": (
        link("rewards", h5py.ExternalLink("elsewhere.hdf5", "rewards")),
        r"rewards: is a link into another file \(elsewhere.hdf5\)",
    ),
    "soft link through another file": (through, "rewards: is a link into another file"),
    "link to nothing": (renamed_link("/nowhere"), "rewards: is a link to nothing"),
    "link into a dataset": (renamed_link("/kept/deeper"), "rewards: is a link to nothing"),
    "links in a circle": (circle, "rewards: is a link to nothing"),
    "rows in a raw file": (external_rows, "rewards: keeps its rows in other files"),
    "virtual rows": (virtual_rows, "rewards: keeps its rows in other files"),
    "giant rewards": (put("rewards", shape=(10**13,), dtype="f4", chunks=(1000,)), "rewards: claims 40,000,0"),
    "giant contiguous": (put("rewards", shape=(10**13,), dtype="f4"), "rewards: claims"),
    "giant and unlike the others": (put("rewards", shape=(4_000_000,), dtype="f4"), "rewards: has 4000000 rows but"),
    "giant chunks": (
        put("rewards", shape=(12,), dtype="f4", chunks=(50_000_000,), maxshape=(None,), compression="gzip"),
        "rewards: needs 200,000,000 bytes at once",
    ),
    "giant width": (put("actions", shape=(12, 10**11), dtype="f4", chunks=(1, 1000)), "actions: claims"),
    "negative terminals": (put("terminals", -np.ones(12, "i1")), "terminals: row 0 is -1, neither 0 nor 1"),
    "terminals of 255": (put("terminals", np.full(12, 255, "u1")), "terminals: row 0 is 255"),
    "terminals of a half": (put("terminals", np.full(12, 0.5)), "terminals: row 0 is 0.5"),
    "terminals as text": (put("terminals", np.full(12, b"F")), "terminals: holds"),
    "actions of three dimensions": (put("actions", np.zeros((12, 1, 2))), r"actions: has shape \(12, 1, 2\)"),
    "observations of one dimension": (put("observations", np.zeros(12)), r"observations: has shape \(12,\)"),
    "rewards across": (put("rewards", np.zeros((1, 12))), r"rewards: has shape \(1, 12\)"),
    "one row short": (put("rewards", np.zeros(11)), "rewards: has 11 rows but observations has 12"),
    "zero rows": (each(lambda array: array[:0]), "observations: has no rows"),
    "one row": (each(lambda array: array[:1]), "no row of 1 has a next observation"),
    "zero columns": (put("observations", np.zeros((12, 0))), "no columns"),
    "double beyond float32": (put("rewards", np.full(12, 1e39)), r"rewards: row 0 is 1e\+39, not a finite float32"),
    "actions missing": (drop("actions"), "actions: missing; the keys there are: observations, rew"),
    "five hundred keys": (many_keys, r"rewards: missing; the keys there are: .*, \.\.\. \(504 in all\)$"),
    "nothing in it": (drop("observations", "actions", "rewards", "terminals", "timeouts"), "are: none"),
    "another content's digest": (attributes(content_sha256="0" * 64), "content differs from its content_sha256"),
    "a digest that is a number": (attributes(content_sha256=3), "content differs from its content_sha256"),
}


@pytest.fixture
def good(steps, tmp_path):
    """A good file of 12 rows, for editing; beside it one that nothing must read."""
    path = tmp_path / "odd.hdf5"
    for name in (path, tmp_path / "elsewhere.hdf5"):
        with h5py.File(name, "w") as file:
            for key, column in steps().items():
                file[key] = column
    return path


def refused(path, words):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=words) as caught:
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 600
    assert peak < MEMORY


@pytest.mark.parametrize("case", REFUSED_HDF5)
def test_refused(case, good):
    edit, words = REFUSED_HDF5[case]
    with h5py.File(good, "a") as file:
        edit(file)
    refused(good, words)


def big_endian(array):
    return array.astype(array.dtype.newbyteorder(">"))


def shuffled_layout(key):
    return put(key, chunks=(5, 1) if key == "observations" else (5,), compression="gzip", shuffle=True, fletcher32=True)


# what is done to a good file of 12 rows that changes nothing (or only how values are rounded)
LOADED_HDF5 = {
    "double": each(lambda array: array if array.dtype == bool else array.astype("f8")),
    "big-endian": each(lambda array: array if array.dtype == bool else big_endian(array)),
    "big-endian double": each(lambda array: array if array.dtype == bool else big_endian(array.astype("f8"))),
    "long double": each(lambda array: array if array.dtype == bool else array.astype(np.longdouble)),
    "columns of one": each(lambda array: array[:, None] if array.ndim == 1 else array),
    "chunked and compressed": shuffled_layout("observations"),
    "lzf": put("rewards", compression="lzf"),
    "resizable": put("rewards", chunks=(100,), maxshape=(None,)),
    "flags as bytes": put("terminals", np.zeros(12, "u1")),
    "flags as doubles": put("terminals", np.zeros(12)),
    "flags never written": put("terminals", shape=(12,), dtype=bool),
    "timeouts missing": drop("timeouts"),
    "soft link within the file": renamed_link("/kept"),
    "relative soft link": renamed_link("kept"),
    "infos with anything": put("rewards"),
    "odd attributes": attributes(
        empty=h5py.Empty("f4"), list=[1, 2], lines="a\nb", raw=np.void(b"\0\1"), engine="legacy"
    ),
    "link to nothing elsewhere": link("infos", h5py.ExternalLink("/absent", "/x")),
}


@pytest.mark.parametrize("case", LOADED_HDF5)
def test_loaded_as_if_plain(case, good, steps):
    with h5py.File(good, "a") as file:
        LOADED_HDF5[case](file)
    tracemalloc.start()
    transitions, report = read(good)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = from_arrays(**steps(), name="plain")
    for key in ("observation", "action", "reward", "next_observation", "terminal", "episode"):
        np.testing.assert_array_equal(getattr(transitions, key), getattr(expected, key))
    assert "\n" not in "".join(report.notes)
    assert peak < MEMORY
    str(report)


def test_other_numbers_are_loaded(good):
    whole = {"observations": np.arange(36).reshape(12, 3).astype("i2"), "actions": np.zeros((12, 2), "f2")}
    whole |= {"rewards": np.arange(12, dtype="u8")}
    with h5py.File(good, "a") as file:
        for key, array in whole.items():
            put(key, array, **({"scaleoffset": 0} if key == "observations" else {}))(file)
    transitions = load(good)
    np.testing.assert_array_equal(transitions.observation, whole["observations"][:-1])
    np.testing.assert_array_equal(transitions.reward, whole["rewards"][:-1])
    assert transitions.observation.dtype == transitions.reward.dtype == np.float32


def test_a_huge_attribute_is_left_out(steps, tmp_path):
    path = tmp_path / "odd.hdf5"
    with h5py.File(path, "w", libver="latest") as file:
        for key, column in steps().items():
            file[key] = column
        file.attrs["engine"] = "legacy"
        file.attrs.create("notes", np.zeros(30_000_000, "S1"))
    tracemalloc.start()
    report = read(path).report
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.provenance == {"engine": "legacy"}
    assert peak < MEMORY


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.hdf5"
    os.mkfifo(path)
    refused(path, "is not a regular file but a pipe or a device")
    refused(Path("/dev/zero"), "is not a regular file")


# --- npz


def npz(path, columns, **entries):
    """An npz file of columns, with some entries given as bytes instead."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, column in columns.items():
            if key not in entries:
                made = io.BytesIO()
                np.lib.format.write_array(made, column)
                archive.writestr(f"{key}.npy", made.getvalue())
        for key, raw in entries.items():
            archive.writestr(f"{key}.npy", raw)
    return path


def header(text, version=b"\x01\x00"):
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text


def described(shape, kind="<f4", order="False"):
    return header(f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}")


class Trap:
    def __reduce__(self):
        return (os._exit, (7,))


PICKLED = described("(12,)", "|O") + pickle.dumps([Trap()] * 12)

REFUSED_NPZ = {
    "pickle under an object header": (PICKLED, "rewards: holds object values"),
    "pickle alone": (pickle.dumps(Trap()), "cannot be read as npz"),
    "giant claim": (described("(1000000000000,)") + bytes(48), "rewards: claims 4,000,000,000,000 bytes where 48 are"),
    "modest claim": (described("(500000000,)") + bytes(48), "rewards: claims 2,000,000,000 bytes where 48 are"),
    "too few bytes": (described("(12,)") + bytes(40), "rewards: claims 48 bytes where 40 are"),
    "too many bytes": (described("(12,)") + bytes(50), "rewards: claims 48 bytes where 50 are"),
    "negative size": (described("(-12,)") + bytes(48), "rewards: claims"),
    "two negative sizes": (described("(-12, -1)") + bytes(48), "rewards: claims"),
    "zero times giant": (described("(0, 1000000000000)"), "rewards: has shape"),
    "records": (described("(12,)").replace(b"'<f4'", b"[('a', '<f4')]"), "cannot be read as npz|rewards: holds"),
    "text": (described("(12,)", "<U1") + bytes(48), "rewards: holds <U1"),
    "dates": (described("(12,)", "<M8[s]") + bytes(96), "rewards: holds datetime64"),
    "complex": (described("(12,)", "<c8") + bytes(96), "rewards: holds complex64"),
    "a program as header": (header("__import__('os')._exit(7)"), "cannot be read as npz"),
    "no header": (b"", "cannot be read as npz"),
    "another version": (b"\x93NUMPY\x09\x00" + bytes(80), "cannot be read as npz|rewards: claims"),
    "long header": (header(" " * 60_000), "cannot be read as npz"),
    "deep header": (header("(" * 5000), "cannot be read as npz"),
}


@pytest.mark.parametrize("case", REFUSED_NPZ)
def test_refused_npz(case, steps, tmp_path):
    raw, words = REFUSED_NPZ[case]
    refused(npz(tmp_path / "odd.npz", steps(), rewards=raw), words)


def test_zip_bombs_are_refused_before_they_unfold(steps, tmp_path):
    rows = 4_000_000
    bomb = npz(tmp_path / "bomb.npz", steps(), rewards=described(f"({rows},)") + bytes(4 * rows))
    assert bomb.stat().st_size < 20_000
    refused(bomb, "rewards: has 4000000 rows but observations has 12")
    path = npz(tmp_path / "odd.npz", steps())
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            for key in ("observations", "actions", "rewards"):
                archive.writestr(f"{key}.npy", described("(2500000, 2)") + bytes(20_000_000))
        refused(path, "observations: claims 20,000,0.. bytes, more than the file can hold")


def test_saved_rows_with_odd_episode_numbers(steps, tmp_path):
    columns = {
        "observation": np.zeros((3, 2), "f4"),
        "action": np.zeros((3, 1), "f4"),
        "reward": np.zeros(3, "f4"),
        "next_observation": np.ones((3, 2), "f4"),
        "terminal": np.zeros(3, "f4"),
        "tabb_saved": np.array(1),
    }
    for number in (np.inf, 2.0**40, -(2.0**31) - 1):
        path = npz(tmp_path / "odd.npz", columns | {"episode": np.array([0, 0, number])})
        refused(path, "episode: row 2 is .*, no 32-bit number")


# --- any bytes, any arrays


def survives(path):
    """Loading ends with transitions of finite numbers, or with one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        try:
            made, told = load(path), ""
        except DataError as error:
            made, told = None, str(error)
    if made is None:
        assert "\n" not in told
        assert told.startswith(str(path))
        return None
    assert len(made) > 0
    for key in ("observation", "action", "reward", "next_observation", "terminal"):
        assert np.isfinite(getattr(made, key)).all()
    assert np.abs(made.action).max() <= 1
    return made


any_kind = st.sampled_from(["f2", "f4", ">f4", "f8", "i1", "u1", ">i2", "i8", "u8", "?", "c8", "S3"])


@st.composite
def columns_of_any_kind(draw):
    """Columns whose types, shapes, lengths and values may each be wrong."""
    rows = draw(st.integers(0, 6))
    odd = draw(st.booleans())
    made = {}
    for key, width in (("observations", 2), ("actions", 1), ("rewards", 0), ("terminals", 0), ("timeouts", 0)):
        length = draw(st.integers(0, 6)) if odd and draw(st.integers(0, 5)) == 0 else rows
        shape = (length, width) if width else (length,)
        if odd and draw(st.integers(0, 5)) == 0:
            shape = draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
        kind = draw(any_kind) if draw(st.integers(0, 2)) == 0 else ("?" if key in ("terminals", "timeouts") else "f4")
        made[key] = draw(arrays.arrays(kind, shape))
    if draw(st.booleans()):
        made["next_observations"] = draw(arrays.arrays("f4", (rows, 2)))
    return made


def check_columns(made, folder):
    with h5py.File(folder / "any.hdf5", "w") as file:
        for key, column in made.items():
            file[key] = column
    np.savez(folder / "any.npz", **made)
    one, other = survives(folder / "any.hdf5"), survives(folder / "any.npz")
    assert (one is None) == (other is None)
    if one is not None:
        for key in ("observation", "action", "reward", "next_observation", "terminal", "episode"):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key))


@quick
@given(columns_of_any_kind())
def test_any_columns(tmp_path_factory, made):
    check_columns(made, tmp_path_factory.mktemp("any", numbered=True))


@pytest.mark.slow
@thorough
@given(columns_of_any_kind())
def test_many_columns(tmp_path_factory, made):
    check_columns(made, tmp_path_factory.mktemp("any", numbered=True))


@quick
@given(exponent=st.floats(-44, 38), seed=st.integers(0, 9), still=st.booleans())
def test_values_of_any_size(tmp_path_factory, exponent, seed, still):
    """Long files without stated ends, where the search for resets measures distances."""
    rng, scale = np.random.default_rng(seed), 10.0**exponent
    path = tmp_path_factory.mktemp("any", numbered=True) / "any.hdf5"
    walk = np.clip(np.cumsum(rng.normal(size=(300, 2)), axis=0) / 60, -1, 1)
    walk[150:] = walk[:150]
    columns = {"observations": (walk * scale).astype("f4"), "actions": walk * 0, "terminals": np.zeros(300)}
    if still:
        columns["observations"][:, 1] = scale
    with h5py.File(path, "w") as file:
        for key, column in (columns | {"rewards": walk[:, 0] * scale}).items():
            file[key] = column
    assert survives(path) is not None


@quick
@given(head=st.sampled_from([b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"PK\x05\x06"]), tail=st.binary(max_size=300))
def test_any_bytes(tmp_path_factory, head, tail):
    path = tmp_path_factory.mktemp("any", numbered=True) / "any"
    path.write_bytes(head + tail)
    assert survives(path) is None


FUZZ = """
import random, resource, signal, sys, warnings
from pathlib import Path
from tabb.data import load
from tabb.errors import DataError, DataWarning
warnings.simplefilter("error"); warnings.simplefilter("ignore", DataWarning)
path, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
good = path.read_bytes(); rng = random.Random(seed); loaded = refused = 0
load(path)
soft = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
other = path.with_suffix(".odd")
for number in range(count):
    data = bytearray(good)
    how = rng.choice(("flip", "head", "cut", "zero", "copy", "word"))
    at = rng.randrange(4096 if how in ("head", "word") else len(data)) % len(data)
    if how in ("flip", "head"):
        data[at] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "zero":
        data[at:at + 64] = bytes(64)
    elif how == "copy":
        data[at:at + 32] = data[rng.randrange(len(data)):][:32]
    else:
        data[at:at + 8] = rng.choice((b"\\xff" * 8, b"\\0" * 8, (1 << 40).to_bytes(8, "little")))
    other.write_bytes(data)
    print(number, how, at, flush=True)
    signal.alarm(20)
    try:
        load(other); loaded += 1
    except DataError as error:
        assert "\\n" not in str(error) and str(error).startswith(str(other)), error
        refused += 1
    signal.alarm(0)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - soft) * 1024
print("loaded", loaded, "refused", refused, "grown", grown)
"""


def fuzz(path, seed, count):
    """Damage `path` in `count` ways in a process of its own, which a crash or a hang would end; bytes of growth."""
    run = subprocess.run([sys.executable, "-c", FUZZ, path, str(seed), str(count)], capture_output=True, text=True)
    last = run.stdout.splitlines()[-1:]
    assert run.returncode == 0, f"{last} {run.returncode} {run.stderr[-1500:]}"
    words = last[0].split()
    assert int(words[1]) + int(words[3]) == count
    assert int(words[3]) > count // 4
    return int(words[5])


def test_damage_to_a_real_file(tmp_path):
    path = tmp_path / "real.hdf5"
    path.write_bytes(BUNDLED.read_bytes())
    assert fuzz(path, 0, 60) < 2 * path.stat().st_size + 20_000_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_much_damage_to_real_and_foreign_files(seed, good, tmp_path):
    path = tmp_path / "real.hdf5"
    path.write_bytes(BUNDLED.read_bytes())
    fuzz(path, seed, 1000)
    fuzz(good, seed, 3000)


PEAK = r"""
import re, sys
from pathlib import Path
from tabb.data import load
def memory(name):  # VmRSS: now, VmHWM: at most so far
    return 1024 * int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])
load(sys.argv[1])
before = memory("VmRSS")
made = load(sys.argv[2])
print(memory("VmHWM") - before, len(made))
"""


def write_large(path, rows, kind="f4", following=False, **options):
    """Episodes of 100 rows; returns the bytes of the columns before compression."""
    steps = np.sin(np.arange(rows * 17, dtype="f4")).reshape(rows, 17)
    columns = {"observations": steps.astype(kind), "actions": steps[:, :6].astype(kind)}
    columns |= {"rewards": steps[:, 7].astype(kind), "terminals": np.zeros(rows, bool)}
    if following:
        columns["next_observations"] = np.roll(columns["observations"], -1, axis=0)
        columns["next_observations"][99::100] += 0.5
    else:
        columns["timeouts"] = np.arange(rows) % 100 == 99
    if path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for key, column in columns.items():
                file.create_dataset(key, data=column, **options)
    return sum(column.nbytes for column in columns.values())


LARGE = {
    "d4rl.hdf5": {},
    "gzip.hdf5": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "odrl.hdf5": {"following": True},
    "double.hdf5": {"kind": "f8"},
    "double.npz": {"kind": "f8"},
    "columns.npz": {},
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process as Linux tells it")
@pytest.mark.parametrize("name", LARGE)
def test_memory_of_a_large_file(name, tmp_path):
    """Never more than twice what the columns take uncompressed: of plain float32 the transitions alone are 1.75."""
    rows = 1_000_000
    data = write_large(tmp_path / name, rows, **LARGE[name])
    run = [sys.executable, "-c", PEAK, BUNDLED, tmp_path / name]
    peak, made = map(int, subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    assert made > 0.98 * rows
    assert peak < 2 * data + 24_000_000  # flags and what Python, NumPy and HDF5 hold on to


@pytest.mark.filterwarnings("ignore:.*environments are logged in turn")  # so near are these made-up rows
@pytest.mark.parametrize("name", LARGE)
def test_large_files_are_loaded_rightly(name, tmp_path):
    """Rows that move up in place, piece by piece, are those that a user's arrays give."""
    rows = 150_000
    write_large(tmp_path / name, rows, **LARGE[name])
    with np.load(tmp_path / name) if name.endswith("npz") else h5py.File(tmp_path / name) as file:
        columns = {key: np.asarray(file[key]) for key in file}
    copies = {key: column.copy() for key, column in columns.items()}
    expected, made = from_arrays(**columns), load(tmp_path / name)
    for key in ("observation", "action", "reward", "next_observation", "terminal", "episode"):
        np.testing.assert_array_equal(getattr(made, key), getattr(expected, key))
    for key, column in copies.items():
        np.testing.assert_array_equal(columns[key], column)  # a user's own arrays stay as they were
    last = np.flatnonzero(np.arange(rows) % 100 != 99) if "timeouts" in columns else np.arange(rows)
    np.testing.assert_array_equal(made.observation, columns["observations"][last].astype("f4"))
    np.testing.assert_array_equal(made.episode, last // 100)


def test_doubles_that_float32_cannot_hold(good):
    """A number too large is told as it is, an episode's number is not rounded."""
    with h5py.File(good, "a") as file:
        del file["timeouts"]
        file["episodes"] = np.repeat([2.0**24, 2.0**24 + 1], 6)
        values = file["rewards"][()].astype("f8")
    assert np.max(load(good).episode) == 1
    values[3] = 1e300
    with h5py.File(good, "a") as file:
        put("rewards", values)(file)
    refused(good, r"rewards: row 3 is 1e\+300, not a finite float32")

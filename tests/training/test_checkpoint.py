"""Checkpoints: every bit comes back, and every kind of damage ends in one line."""

import itertools
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones.iql import IQL
from tabb.batch import Sizes
from tabb.errors import RunError
from tabb.rules.baselines import Pooled
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates

TREE = {"network": [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(0.1)], "count": np.int32(7)}


@pytest.fixture
def path(tmp_path):
    save_tree(tmp_path / "checkpoint.npz", TREE, {"updates": 3})
    return tmp_path / "checkpoint.npz"


def refused(path, template=TREE):
    with pytest.raises(RunError) as caught:
        load_tree(path, template)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_round_trip_of_a_learner(tmp_path, backbone, sizes, domains, same_bits):
    learner = Program(backbone, Pooled(), 20)
    data, key = pack_data(domains, {}), jax.random.key(2)
    state, _ = compiled_updates(learner, (), data, key, learner.init(sizes, jax.random.key(1)), 0, 7)
    save_tree(tmp_path / "checkpoint.npz", state, {"updates": 7, "seed": 1})
    template = jax.eval_shape(lambda: learner.init(sizes, jax.random.key(0)))
    loaded, header = load_tree(tmp_path / "checkpoint.npz", template)
    assert header == {"updates": 7, "seed": 1}
    assert same_bits(state, loaded)
    assert int(loaded.value_optimiser[0].count) == 7
    assert [int(part.count) for part in loaded.policy_optimiser] == [7, 7]  # Adam's and the schedule's
    # load and continue == never stopped
    further = [compiled_updates(learner, (), data, key, s, 7, 9)[0] for s in (state, loaded)]
    assert same_bits(*further)


def test_what_an_earlier_version_kept_for_nothing_is_left_out(tmp_path):
    save_tree(tmp_path / "c.npz", [np.ones((2, 20, 1), np.float32), np.int32(7)], {})
    loaded, _ = load_tree(tmp_path / "c.npz", [np.zeros((2, 0, 1), np.float32), np.int32(0)])
    assert loaded[0].shape == (2, 0, 1)
    assert loaded[1] == 7
    with pytest.raises(RunError, match="of another learner"):  # the other axes must be as they are
        load_tree(tmp_path / "c.npz", [np.zeros((3, 0, 1), np.float32), np.int32(0)])


def test_special_numbers_come_back(tmp_path):
    tree = [np.array([np.nan, np.inf, -0.0, 1e-45], np.float32), np.array([], np.float32), np.array([True, False])]
    save_tree(tmp_path / "c.npz", tree, {})
    loaded, _ = load_tree(tmp_path / "c.npz", tree)
    for a, b in zip(tree, loaded, strict=True):
        assert a.tobytes() == np.asarray(b).tobytes()


def test_many_leaves_keep_their_order(tmp_path):
    tree = [np.int32(i) for i in range(120)]
    save_tree(tmp_path / "c.npz", tree, {})
    assert [int(leaf) for leaf in load_tree(tmp_path / "c.npz", tree)[0]] == list(range(120))


@pytest.mark.parametrize(
    "template",
    [
        {"network": [np.zeros((3, 2), np.float32), np.float32(0)], "count": np.int32(0)},
        {"network": [np.zeros((2, 3), np.float32), np.float32(0)], "count": np.float32(0)},
        {"network": [np.zeros((2, 3), np.float32)], "count": np.int32(0)},
        {"network": [np.zeros((2, 3), np.float32), np.float32(0)], "count": np.int32(0), "more": np.int32(0)},
    ],
    ids=["shape", "type", "fewer", "more"],
)
def test_another_learners_checkpoint(path, template):
    assert "another learner" in refused(path, template)


def test_another_width_is_another_learner(tmp_path):
    states = [IQL(policies=1, hidden=(width,)).init(Pooled(), Sizes(3, 2), 10, jax.random.key(0)) for width in (4, 5)]
    save_tree(tmp_path / "c.npz", states[0], {})
    assert "another learner" in refused(tmp_path / "c.npz", states[1])


def test_missing_file(tmp_path):
    assert "no such checkpoint" in refused(tmp_path / "none.npz")


def test_folder_instead_of_a_file(tmp_path):
    assert "damaged" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04K\x01."])
def test_other_content(path, content):
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_every_truncation(path):
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert "damaged" in refused(path)


def attempt(path):
    """What the file holds, or the error that refuses it."""
    try:
        return load_tree(path, TREE)
    except RunError as error:
        return error


def test_flipped_bits_are_refused_or_harmless(path, same_bits):
    """Any one bit: the file is refused in one line, or what comes back is right (names and dates of the zip)."""
    content, caught = path.read_bytes(), 0
    for at, bit in zip(range(0, len(content), 2), itertools.cycle(range(8)), strict=False):
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        result = attempt(path)
        if isinstance(result, RunError):
            assert "\n" not in str(result)
            caught += 1
        else:
            assert same_bits(result[0], jax.tree.map(jnp.asarray, TREE)), at
            assert result[1] == {"updates": 3}, at
    assert caught > 100


def test_a_flipped_number_is_refused(path):
    content = path.read_bytes()
    at = content.index(np.arange(6, dtype=np.float32).tobytes()) + 9
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert "damaged" in refused(path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("unpickled",))

    for name, arrays in (
        ("leaf.npz", {"header": np.array("{}"), "leaf_0000": np.array([Trap()], object)}),
        ("header.npz", {"header": np.array([Trap()], object), "leaf_0000": np.zeros(1, np.float32)}),
    ):
        np.savez(tmp_path / name, **arrays)
        assert "damaged" in refused(tmp_path / name, [np.zeros(1, np.float32)])


@pytest.fixture
def small_files_only():
    """A disk that is full after 600 bytes of each file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_failing_write_leaves_the_old_file(path, small_files_only, same_bits):
    with pytest.raises(RunError, match="cannot be written") as caught:
        save_tree(path, {"other": np.zeros(10_000, np.float32)}, {"updates": 4})
    assert "\n" not in str(caught.value)
    loaded, header = load_tree(path, TREE)
    assert header == {"updates": 3}
    assert same_bits(loaded, jax.tree.map(jnp.asarray, TREE))
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no half file


@pytest.mark.parametrize("where", ["none/c.npz", "file/c.npz", "folder"])
def test_places_that_cannot_be_written(tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("")
    with pytest.raises(RunError, match="cannot be written") as caught:
        save_tree(tmp_path / where, TREE, {})
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_overwriting_replaces_the_whole_file(path):
    save_tree(path, {"other": np.zeros(2, np.float32)}, {"updates": 4})
    assert load_tree(path, {"other": np.ones(2, np.float32)})[1] == {"updates": 4}
    assert "another learner" in refused(path)

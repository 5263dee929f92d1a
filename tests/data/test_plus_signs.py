"""Several files in one text, with a plus between them and perhaps in their names."""

import numpy as np
import pytest

import tabb
from cart import cart
from tabb.data.catalogue import resolve
from tabb.data.files import split
from tabb.data.hdf5 import write_hdf5
from tabb.data.names import joined, parts_of
from tabb.errors import DataError


@pytest.fixture
def place(tmp_path, monkeypatch):
    for folder in ("c++ proj", "plain"):
        (tmp_path / folder).mkdir()
        for seed, name in enumerate("ab"):
            write_hdf5(tmp_path / folder / f"{name}.hdf5", cart(60, seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("plain/a.hdf5", ["plain/a.hdf5"]),
        ("plain/a.hdf5+plain/b.hdf5", ["plain/a.hdf5", "plain/b.hdf5"]),
        ("plain/a.hdf5 + plain/b.hdf5", ["plain/a.hdf5", "plain/b.hdf5"]),
        ("c++ proj/a.hdf5", ["c++ proj/a.hdf5"]),
        ("c++ proj/a.hdf5+c++ proj/b.hdf5", ["c++ proj/a.hdf5", "c++ proj/b.hdf5"]),
        ("plain/a.hdf5+c++ proj/b.hdf5+plain/b.hdf5", ["plain/a.hdf5", "c++ proj/b.hdf5", "plain/b.hdf5"]),
        (r"c\+\+ proj/a.hdf5", ["c++ proj/a.hdf5"]),
        (r"c\+\+ proj/a.hdf5+plain/b.hdf5", ["c++ proj/a.hdf5", "plain/b.hdf5"]),
        (r"gone\+.hdf5+plain/b.hdf5", ["gone+.hdf5", "plain/b.hdf5"]),
        ("gone.hdf5+plain/b.hdf5", ["gone.hdf5", "plain/b.hdf5"]),
    ],
)
def test_files_by_text(place, text, files):
    assert parts_of(text) == files
    assert [str(path) for path in split(text)] == files
    assert parts_of(joined(files)) == files


def test_all_doors_read_them(place):
    text = "c++ proj/a.hdf5+c++ proj/b.hdf5"
    both = [place / "c++ proj" / f"{name}.hdf5" for name in "ab"]
    assert np.array_equal(tabb.load(text).observation, tabb.load(both).observation)
    assert [str(path) for path in resolve(text, "hopper", "source")] == ["c++ proj/a.hdf5", "c++ proj/b.hdf5"]
    assert tabb.audit(text).files == (r"c\+\+ proj/a.hdf5+c\+\+ proj/b.hdf5",)


def test_what_is_not_there_is_named_with_the_way_to_write_it(place):
    with pytest.raises(DataError, match=r"gone/a\.hdf5: no such file; give a path \(`\\\+` is a plus in a name\)"):
        resolve("gone/a.hdf5+plain/b.hdf5", "hopper", "source")


def test_many_plus_signs_are_no_endless_search(place):
    with pytest.raises(DataError):
        tabb.load("+".join(["x"] * 200))

"""The gallery shows every task of the catalogue, and its pictures are what the script draws."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from pictures import check_current, pixels_of, share_of_far_pixels
from tabb.environments.tasks import ALL_TASKS
from tabb.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / "docs" / "gallery.md").exists() or importlib.util.find_spec("gymnasium_robotics") is None,
    reason='the gallery needs docs/ and the extra `adroit`: pip install -e ".[dev]"',
)


@pytest.fixture(scope="module")
def gallery():
    sys.path.insert(0, str(ROOT / "docs" / "tools"))
    try:
        import gallery

        yield gallery
    finally:
        sys.path.remove(str(ROOT / "docs" / "tools"))


def test_every_task_is_on_the_page_and_every_picture_is_there(gallery):
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, flags=re.MULTILINE)
    assert {name for name, _ in listed} == set(ALL_TASKS)
    assert all(change.strip() for _, change in listed)
    pictures = re.findall(r"!\[[^\]]+\]\((gallery/[^)]+\.png)\)", text)
    there = {f"gallery/{file.name}" for file in (ROOT / "docs" / "gallery").iterdir()}
    assert set(pictures) == there
    assert len(pictures) == len(there) == 43
    assert sum((ROOT / "docs" / name).stat().st_size for name in pictures) < 2e6
    for name in pictures:
        colours = pixels_of(ROOT / "docs" / name)
        assert colours.shape[0] >= 260
        assert colours.std() > 20, name  # neither black nor of one colour


def test_the_page_is_what_the_catalogue_says(gallery):
    advice = "docs/gallery.md is not current: python docs/tools/gallery.py --page"
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == gallery.page(), advice


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("hopper-gravity-0.5", "gravity 9.81 → 4.905 m/s²"),
        ("hopper-friction-2.0", "sliding friction of the 4 geoms of the body × 2; the floor keeps its own"),
        ("ant-friction-0.1", "sliding, torsional and rolling friction of all 14 geoms, floor included, × 0.1"),
        ("walker2d-kinematic", "foot_joint −45 to 45 → −0.45 to 0.45°"),
        ("halfcheetah-kinematic", "bthigh −0.52 to 1.05 → −0.0052 to 0.0105 rad"),
        ("hopper-morph", "torso_geom radius 0.05 → 0.125 m; thigh_geom radius 0.05 → 0.04 m"),
        (
            "antmaze-small-empty",
            "20 m × 20 m, 9 free cells, 16 m from start to goal by the shortest route from cell to cell",
        ),
    ],
)
def test_changes_are_told_with_their_numbers(task, says, gallery):
    assert gallery.changes(ALL_TASKS[task]) == says


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hopper-morph-torso", "halfcheetah-gravity", "door-shrink-finger", "antmaze-small"])
def test_pictures_are_what_the_script_draws(name, gallery):
    from tabb.rendering.backend import find_backend

    try:
        find_backend()
    except UsageError as error:
        pytest.skip(str(error))
    file = ROOT / "docs" / "gallery" / f"{name}.png"
    advice = f"docs/gallery/{name}.png is not current: python docs/tools/gallery.py"
    check_current(gallery.strip(gallery.strips()[name]), file, levels=60, share=0.01, advice=advice)
    # The robots differ from tile to tile by more than drivers do.
    width = gallery.WIDTH
    tiles = [pixels_of(file)[40:260, k * width : (k + 1) * width] for k in (0, 3)]
    assert share_of_far_pixels(*tiles, levels=60) > 0.003

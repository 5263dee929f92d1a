"""Draws the first screens of the report and of a comparison; docs/pictures/report.png and comparison.png.

    apt-get install chromium
    python docs/tools/report_pictures.py              # minutes: it trains on the logs of the notebook
    python docs/tools/report_pictures.py RUNS         # of runs that are there: RUNS/tabb/seed0, RUNS/target-only/seed0

The pages are those of the cart in docs/notebook/own_data.py, opened in headless Chromium in a window of 1000 pixels.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import matplotlib

import notebook
import tabb
from browser import Browser
from diagrams import PICTURES

WIDTH = 1000
HEIGHTS = {"report": 650, "comparison": 900}
"""pixels of the first screens; that of the report ends above the paths of its files"""


def train(folder: Path) -> Path:
    """Runs of the notebook's cart: `tabb`, as the notebook trains it, and target-only beside it."""
    matplotlib.use("Agg")
    os.chdir(folder)
    names: dict[str, Any] = {}
    script = notebook.SCRIPT.read_text(encoding="utf-8").replace("runs/mine", "runs/tabb")
    for kind, text in notebook.cells(script):
        if kind == "code":
            exec(text, names)
    beside = tabb.Learner(tabb.TargetOnly(), tabb.IQL(hidden=(64, 64)), updates=names["UPDATES"], evaluations=4)
    beside.fit(None, "robot.npz", folder="runs/target-only")
    return folder / "runs"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(sys.argv[1]).resolve() if sys.argv[1:] else train(Path(folder))
        pages = {
            "report": tabb.write_report(runs / "tabb", Path(folder) / "report.html"),
            "comparison": tabb.write_comparison(
                [runs / "tabb", runs / "target-only"], Path(folder) / "comparison.html"
            ),
        }
        browser = Browser(Path(folder) / "profile")
        try:
            for name, page in pages.items():
                browser.open(page, WIDTH, "light", HEIGHTS[name])
                browser.picture(PICTURES / f"{name}.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()

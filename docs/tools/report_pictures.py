"""Draws the first screens of the report and of a comparison; docs/pictures/report.png and comparison.png.

    apt-get install chromium
    python docs/tools/report_pictures.py              # minutes: it runs the demo
    python docs/tools/report_pictures.py runs/demo    # of a demo that is there

The pages are those of the demo, opened in headless Chromium in a window of 1000 pixels.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import tabb
from browser import Browser
from diagrams import PICTURES
from tabb.commands.demo import CANDIDATES, demo

WIDTH = 1000
HEIGHTS = {"report": 699, "comparison": 1014}
"""pixels of the first screens; that of the report ends above the paths of its files"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(sys.argv[1] if sys.argv[1:] else Path(folder) / "demo").resolve()
        if not sys.argv[1:]:
            demo(["--out", str(runs)])
        pages = {
            "report": tabb.write_report(runs / "tabb", Path(folder) / "report.html"),
            "comparison": tabb.write_comparison([runs / name for name in CANDIDATES], Path(folder) / "comparison.html"),
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

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from tabb.cli import main
from tabb.data import save_npz, write_hdf5

SMALL = ["--updates", "20", "--evaluations", "0", "--progress", "none", "--jobs", "1"]
NETWORKS = ["--backbone.policies", "1", "--backbone.hidden", "8", "8", "--backbone.batch-size", "32"]
NETWORKS += ["--backbone.discount", "0.9"]  # fitted Q evaluation takes 44 iterations, not 459
PREDICTOR = ["--rule.predictor", "residual", "--rule.predictor.updates", "5", "--rule.predictor.heads", "2"]
PREDICTOR += ["--rule.predictor.hidden", "8"]
SOURCE = 'sim <b> & "co".hdf5'
"""a name that would be markup"""


@pytest.fixture(scope="session")
def report_files(make_pair, tmp_path_factory) -> dict[str, str]:
    """A source file, whose name holds markup and of which two rows are dropped, and a target file."""
    folder = tmp_path_factory.mktemp("data")
    source, target = make_pair(400, 200)
    timeouts = np.zeros(400, bool)
    timeouts[[99, 399]] = True
    columns = {
        "observations": source.observation,
        "actions": source.action,
        "rewards": source.reward,
        "terminals": (source.terminal > 0) & ~timeouts,
        "timeouts": timeouts,
    }
    write_hdf5(folder / SOURCE, columns)
    save_npz(folder / "target.npz", target)
    return {"source": str(folder / SOURCE), "target": str(folder / "target.npz")}


@pytest.fixture(scope="session")
def train_small(report_files):
    """`train_small(out, rule, *options)`: the folder of a small run's seeds."""

    def train(out: Path, *options: str) -> Path:
        data = ["--source", report_files["source"], "--target", report_files["target"]]
        assert main(["train", options[0], *SMALL, *NETWORKS, *options[1:], *data, "--out", str(out)]) == 0
        return out

    return train


@pytest.fixture(scope="session")
def two_seeds(train_small, tmp_path_factory) -> Path:
    """Runs of tabb with seeds 3 and 1."""
    return train_small(tmp_path_factory.mktemp("runs") / "tabb", "tabb", "--seeds", "3", "1", *PREDICTOR)


class Page:
    """A report read by an XML parser, which refuses what is not well-formed."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        kind, _, markup = self.text.partition("\n")
        assert kind == "<!DOCTYPE html>"
        self.root = ElementTree.fromstring(markup)
        self.sections = {section.find("h2").get("id"): section for section in self.root.iter("section")}

    def words(self, section: str) -> str:
        return "".join(self.sections[section].itertext())

    def tables(self, section: str) -> list[list[list[str]]]:
        """The tables of a section, each as rows of the cells' texts, without the head."""
        return [
            [["".join(cell.itertext()) for cell in row] for row in table.find("tbody")]
            for table in self.sections[section].iter("table")
        ]


@pytest.fixture(scope="session")
def predictor_options() -> list[str]:
    return PREDICTOR


@pytest.fixture(scope="session")
def open_page():
    return Page

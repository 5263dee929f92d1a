"""The notebook is that of its script, whole and executed; its cells run."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is no part of a source archive")


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(DOCS / "tools"))
    try:
        import notebook

        yield notebook
    finally:
        sys.path.remove(str(DOCS / "tools"))


def test_the_notebook_and_its_page_are_those_of_the_script(tool):
    kept = json.loads(tool.NOTEBOOK.read_text(encoding="utf-8"))
    advice = "docs/notebook is not current: python docs/tools/notebook.py"
    script = tool.SCRIPT.read_text(encoding="utf-8")
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in kept["cells"]] == list(tool.cells(script)), advice
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
    text, pictures = tool.page(kept)
    assert tool.PAGE.read_text(encoding="utf-8") == text, advice
    files = sorted(tool.NOTEBOOK.parent.glob("*.png"))
    assert [file.read_bytes() for file in files] == pictures
    assert len(pictures) >= 2
    assert tool.NOTEBOOK.stat().st_size + sum(map(len, pictures)) < 1_000_000


def test_cells_of_a_script(tool):
    script = (
        "# not part of it\n# %% [markdown]\n# # Head\n#\n# Words.\n\n# %%\nx = 1\n\n\n# %%\nprint(x)  # %% no cell\n"
    )
    assert list(tool.cells(script)) == [
        ("markdown", "# Head\n\nWords."), ("code", "x = 1"), ("code", "print(x)  # %% no cell")
    ]  # fmt: skip


@pytest.mark.slow
def test_its_cells_run_on_a_small_budget(tool, tmp_path, monkeypatch, capsys):
    """In this process, as a script: each cell in order, in an empty folder."""
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for kind, text in tool.cells(tool.SCRIPT.read_text(encoding="utf-8")):
        if kind == "code":
            exec(text.replace("UPDATES = 2_000", "UPDATES = 20"), names)  # its own text, none from outside
    assert "in the mud, fast" in capsys.readouterr().out
    assert {"policy.npz", "policy.onnx", "runs"} <= {file.name for file in tmp_path.iterdir()}
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.slow
def test_the_notebook_is_executed_as_jupyter_does(tool, tmp_path):
    if any(importlib.util.find_spec(name) is None for name in ("nbclient", "ipykernel")):
        pytest.skip('needs the extra `notebook`: pip install -e ".[docs,notebook]"')
    script = tool.SCRIPT.read_text(encoding="utf-8").replace("UPDATES = 2_000", "UPDATES = 20")
    done = tool.executed(tool.made(script), tmp_path)
    text, pictures = tool.page(done)
    assert len(pictures) >= 2
    assert "in the mud, fast" in text

"""The notebook on own data: made from a script, executed, and shown as a page of the site.

    pip install -e ".[docs,notebook]"
    python docs/tools/notebook.py            # runs every cell; minutes

The script is docs/notebook/own_data.py, in the percent format that editors know: a cell begins with `# %%`, one of
text with `# %% [markdown]`. From it come docs/notebook/own_data.ipynb, with what each cell printed and drew, and
docs/notebook.md with its pictures, which needs nothing to be shown.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
SCRIPT = DOCS / "notebook" / "own_data.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")
PAGE = DOCS / "notebook.md"
ABOUT = (
    "This page is a notebook with its results: [own_data.ipynb](notebook/own_data.ipynb) to run and change, "
    "[own_data.py](notebook/own_data.py) as a plain script. `python docs/tools/notebook.py` makes it anew."
)


def cells(script: str) -> Iterator[tuple[str, str]]:
    """(`markdown` or `code`, text) of each cell of a script in the percent format."""
    _, *parts = re.split(r"^# %%(.*)\n", script, flags=re.MULTILINE)
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in head:
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()
        else:
            yield "code", body.strip()


def made(script: str) -> dict[str, Any]:
    """The notebook of a script, not yet executed, in version 4.5 of Jupyter's format."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    blank: dict[str, Any] = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": []}
    for number, (kind, text) in enumerate(cells(script)):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text}
        blank["cells"].append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    return blank


def executed(notebook: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """The notebook with what its cells printed and drew, run in order in `folder`. Raises what a cell raises."""
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.from_dict(notebook)
    NotebookClient(node, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    done: dict[str, Any] = json.loads(nbformat.writes(node))
    done["metadata"] = notebook["metadata"]  # without the version of Python
    for cell in done["cells"]:
        cell["metadata"] = {}  # without times
        cell["source"] = "".join(cell["source"])
    return done


def page(notebook: dict[str, Any]) -> tuple[str, list[bytes]]:
    """The notebook as Markdown, and its pictures in order, which the text names `notebook/own_data-1.png` and so on."""
    parts, pictures = [], []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                pictures.append(base64.b64decode(data["image/png"]))
                parts.append(f"![What the cell above draws](notebook/own_data-{len(pictures)}.png)")
            elif said := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{said}\n```")
    head, _, rest = "\n\n".join(parts).partition("\n\n")
    return f"{head}\n\n{ABOUT}\n\n{rest}\n", pictures


def write(notebook: dict[str, Any]) -> None:
    """Write the notebook, the page and its pictures."""
    text, pictures = page(notebook)
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(text, encoding="utf-8")
    for old in NOTEBOOK.parent.glob("own_data-*.png"):
        old.unlink()
    for number, picture in enumerate(pictures, 1):
        (NOTEBOOK.parent / f"own_data-{number}.png").write_bytes(picture)


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        write(executed(made(SCRIPT.read_text(encoding="utf-8")), folder))
    print(f"{NOTEBOOK}, {PAGE}")


if __name__ == "__main__":
    main()

"""Relative links of pages to files of the repository, as a code host resolves them, resolved on the site too.

A Markdown page of the repository that the site includes (`INCLUDED`) is linked to as the page it is here; a Python
file or a folder becomes a page under `repository/`; any other file is copied there. A link to what does not exist
stays as it is, and MyST warns of it.
"""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
INCLUDED = {
    "CONTRIBUTING.md": "project/contributing",
    "CHANGELOG.md": "project/changelog",
    "benchmarks/README.md": "project/benchmarks",
}
PLACE = "repository"


class RepositoryLinks(SphinxTransform):
    """Runs on a page as it was read, before anything resolves references."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        docname = self.env.docname
        for kind in (addnodes.pending_xref, addnodes.download_reference):
            for node in list(self.document.findall(kind)):
                if node.get("reftype") == "myst":
                    self._resolve(node, docname)

    def _resolve(self, node: nodes.Element, docname: str) -> None:
        path, linked = self._path(node)
        if not path.exists() or not path.is_relative_to(ROOT):
            return
        name = path.relative_to(ROOT).as_posix()
        docs = Path(self.env.srcdir).resolve()
        page = INCLUDED.get(name) or (self.env.path2doc(path) if path.is_relative_to(docs) and path.is_file() else None)
        if page is not None:
            anchor = linked.partition("#")[2] or node.get("reftargetid")
            wanted = {"refdomain": "doc", "reftarget": page, "reftargetid": anchor}
            shared = {key: node[key] for key in ("refdoc", "reftype", "refexplicit")}
            node.replace_self(addnodes.pending_xref("", *node.children, **shared, **wanted))
            return
        if path.is_relative_to(docs):
            return
        _linked(self.env).setdefault(docname, set()).add(name)
        address = "../" * docname.count("/") + _address(path)
        node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=address))

    def _path(self, node: nodes.Element) -> tuple[Path, str]:
        """The file that a link names, seen from the file that holds the link, and the link's text."""
        linked = node.get("reftarget", "")
        if node.get("refdomain") == "doc":  # MyST's name of a Markdown file, absolute outside of the site's folder
            return Path(self.env.srcdir, linked + ".md").resolve(), linked
        holder = Path(node.source) if node.source else None
        for inner in node.findall(nodes.Element):
            holder = holder or (Path(inner.source) if inner.source else None)
        holder = holder or Path(self.document["source"])
        return (holder.resolve().parent / linked.partition("#")[0]).resolve(), linked


def _address(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"{PLACE}/{name}/index.html"
    return f"{PLACE}/{name}.html" if path.suffix == ".py" else f"{PLACE}/{name}"


def _linked(env: Any) -> dict[str, set[str]]:
    """Files and folders of the repository that each page links to."""
    if not hasattr(env, "repository_links"):
        env.repository_links = {}
    return env.repository_links


def _purge(app: Any, env: Any, docname: str) -> None:
    _linked(env).pop(docname, None)


def _merge(app: Any, env: Any, docnames: list[str], other: Any) -> None:
    _linked(env).update({name: _linked(other)[name] for name in docnames if name in _linked(other)})


def _pages(app: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """Code pages, folder pages and copies of the other files."""
    for name in sorted(set().union(*_linked(app.env).values()) if _linked(app.env) else ()):
        path = ROOT / name
        if path.is_dir():
            yield _page(f"{PLACE}/{name}/index", name, _listing(path))
            for file in path.rglob("*"):
                if file.is_file():
                    _copy(app, file)
        elif path.suffix == ".py":
            code = app.builder.highlighter.highlight_block(path.read_text(encoding="utf-8"), "python")
            yield _page(f"{PLACE}/{name}", name, code)
        else:
            _copy(app, path)


def _page(address: str, name: str, body: str) -> tuple[str, dict[str, str], str]:
    title = html.escape(name)
    return address, {"title": title, "body": f"<h1><code>{title}</code></h1>\n{body}"}, "page.html"


def _listing(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in files]
    lines = [f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>' for name in names]
    return f"<ul>\n{chr(10).join(lines)}\n</ul>"


def _copy(app: Any, file: Path) -> None:
    place = Path(app.outdir) / PLACE / file.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def setup(app: Any) -> dict[str, bool]:
    app.add_transform(RepositoryLinks)
    app.connect("env-purge-doc", _purge)
    app.connect("env-merge-info", _merge)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""What code a rule depends on: the source of its classes and of all that they import of tabb and of their package."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from typing import Any


def code_of(value: Any) -> str | None:
    """SHA-256 of the source code that a dataclass's methods depend on; None if some of it cannot be read.

    Included are the modules of its class, of the classes that it extends and of the dataclasses in its fields, and what
    these modules import, in turn, of tabb and of their own packages. Other packages count by their versions alone.
    """
    modules = frozenset(kind.__module__ for kind in _classes(value) if kind.__module__ != "builtins")
    return _digest(modules)


def _classes(value: Any) -> Iterator[type]:
    yield from type(value).__mro__
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            yield from _classes(inner)


@functools.cache
def _digest(modules: frozenset[str]) -> str | None:
    sources = sources_of(modules)
    if sources is None:
        return None
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])} {sources[name]}".encode())
    return digest.hexdigest()


def sources_of(modules: Iterable[str]) -> dict[str, str] | None:
    """The source, by name, of these modules and of what they import of tabb and of their own packages.

    None if one of them cannot be read.
    """
    # The standard library counts by Python's version.
    waiting = [name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names]
    roots = {"tabb", *(name.partition(".")[0] for name in waiting)}
    sources: dict[str, str] = {}
    while waiting:
        spec = _spec(waiting.pop())
        if spec is None or spec.name in sources:
            continue
        source = _source(spec)
        if source is None:
            return None
        sources[spec.name] = source
        waiting += [name for name in _imports(source, spec) if name.partition(".")[0] in roots]
    return sources


def _spec(name: str) -> ModuleSpec | None:
    """Where a module comes from; None for what is no module."""
    if name in sys.modules:
        # A script has no spec of its own.
        return getattr(sys.modules[name], "__spec__", None) or ModuleSpec(name, None)
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its parent is missing or no package
        return None


def _source(spec: ModuleSpec) -> str | None:
    """The module's source; None if it cannot be read (a notebook, compiled code)."""
    if spec.submodule_search_locations is not None and spec.origin is None:
        return ""  # a folder without __init__.py
    try:
        get_source: Callable[[str], str | None] | None = getattr(spec.loader, "get_source", None)
        if get_source is not None:
            return get_source(spec.name)
        return inspect.getsource(sys.modules[spec.name])
    except (OSError, TypeError, KeyError, ImportError):
        return None


def _imports(source: str, spec: ModuleSpec) -> Iterator[str]:
    """The modules that a source imports, anywhere in it; of `from a import b` both `a` and `a.b`, if that is one."""
    package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            if node.level:
                origin = importlib.util.resolve_name(origin, package)
            yield from (f"{origin}.{alias.name}" for alias in node.names)
            yield origin

"""The order of layers: a part of tabb imports only what stands below it, and nothing imports in a circle."""

import ast
import itertools
from pathlib import Path

import tabb

PACKAGE = Path(tabb.__file__).parent

LAYERS = (
    {"_version", "cores", "errors", "float32", "shown"},
    {"action_bounds", "field_types", "files", "jax_programs", "jax_switches", "own_files"}
    | {"bellman", "networks", "transformer"},
    {"transitions"},
    {"policy", "batch", "provenance"},
    {"models"},
    {"rules"},
    {"backbones"},
    {"registry"},
    {"plain"},
    {"environments"},
    {"data"},
    {"evaluation"},
    {"tracking"},
    {"training"},
    {"running"},
    {"rendering", "deploy"},
    {"behaviours"},
    {"results"},
    {"learner"},
    {"experiments"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
"""From the ground up. `tabb/__init__.py`, which names everything, and `_moved` stand apart."""

HEIGHT = {part: height for height, layer in enumerate(LAYERS) for part in layer}


def modules():
    """Every module's file by name, `tabb` itself and `tabb._moved` aside."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("tabb", "tabb._moved"):
            found[name] = file
    return found


def imports_of(file, known):
    """The modules of tabb that a file imports, anywhere in it: in functions and for types as well."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            inside = {f"{node.module}.{name.name}" for name in node.names}
            found |= (inside & known) or {node.module}
    return found & known


MODULES = modules()
IMPORTS = {name: imports_of(file, set(MODULES)) - {name} for name, file in MODULES.items()}


def test_every_part_has_its_layer():
    assert {name.split(".")[1] for name in MODULES} == set(HEIGHT)


def test_imports_go_down():
    up = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        for part, below in [(name.split(".")[1], other.split(".")[1])]
        if part != below and HEIGHT[below] >= HEIGHT[part]
    ]
    assert not up


def test_nothing_imports_in_a_circle():
    left = dict(IMPORTS)
    while ready := [name for name, others in left.items() if not others & left.keys()]:
        for name in ready:
            del left[name]
    # What remains imports in circles, or imports what does.
    while ends := left.keys() - set(itertools.chain(*left.values())):
        for name in ends:
            del left[name]
    assert not left, f"in circles: {', '.join(sorted(left))}"

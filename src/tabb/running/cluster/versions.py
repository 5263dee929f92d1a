"""What must be the same on all machines of a plan, so that its cells compare methods and not installations.

Imported on nodes: the standard library alone.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from tabb._version import __version__

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "gymnasium", "mujoco")

PLUGIN = "package "
"""before the name of a package that brings rules or backbones: only runs of these need it"""


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python, of tabb (with a hash of its code, which changes without a new number) and of what it uses."""
    package = Path(__file__).parents[2]
    code = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        code.update(file.relative_to(package).as_posix().encode())
        code.update(file.read_bytes())
    numbers = {"Python": platform.python_version(), "tabb": f"{__version__} (code {code.hexdigest()[:8]})"}
    for name in PACKAGES:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = "none"
    return numbers | plugins()


def plugins() -> dict[str, str]:
    """Versions of the packages that bring rules or backbones of their own."""
    entries = [entry for group in ("tabb.rules", "tabb.backbones") for entry in entry_points(group=group)]
    return {f"{PLUGIN}{entry.dist.name}": entry.dist.version for entry in entries if entry.dist is not None}


def difference(here: dict[str, str], there: dict[str, str], node: str) -> str | None:
    """The first difference between the driver's versions and a node's, as one line; None if there is none.

    A plugin that a node does not have is no difference: a run that needs it says so itself.
    """
    for name, wanted in here.items():
        if name.startswith(PLUGIN) and name not in there:
            continue
        other = there.get(name, "none")
        if other != wanted:
            return (
                f"node {node} has {name} {other}, this machine {wanted}: install the same on every node, "
                "then run the command again"
            )
    return None

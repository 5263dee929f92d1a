"""The audit: what is wrong, or odd, in data files before anyone trains on them, with its place and its remedy.

The doors of `tabb.data` ask some of its modules while they read, so this package imports nothing until a name is used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabb.data.audit.all_findings import Audit as Audit
    from tabb.data.audit.all_findings import audit as audit
    from tabb.data.audit.all_findings import pair_form as pair_form
    from tabb.data.audit.all_findings import short_form as short_form
    from tabb.data.audit.finding import Finding as Finding

__all__ = ["Audit", "Finding", "audit", "pair_form", "short_form"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module("tabb.data.audit.finding" if name == "Finding" else "tabb.data.audit.all_findings")
    value = getattr(module, name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """`import tabb.audit`, the old name, makes this package `tabb.audit`, which is a function otherwise."""

    def __call__(self, *files: Any, **options: Any) -> Audit:
        return self.audit(*files, **options)


sys.modules[__name__].__class__ = _Package

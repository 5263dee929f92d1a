"""Modules that have moved: the old name is still imported, and says where it went."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MOVED = {
    "tabb.audit": "tabb.data.audit",
    "tabb.backbones.backup": "tabb.bellman",
    "tabb.candidate_policy": "tabb.policy.candidates",
    "tabb.cluster": "tabb.running.cluster",
    "tabb.data.collect": "tabb.behaviours.collect",
    "tabb.evaluation.row_scores": "tabb.results.row_scores",
    "tabb.evaluation.selection": "tabb.results.selection",
    "tabb.evaluation.summary": "tabb.results.summary",
    "tabb.report": "tabb.results.report",
    "tabb.rules.cvae": "tabb.models.cvae",
    "tabb.rules.ensemble": "tabb.models.ensemble",
    "tabb.rules.fitting": "tabb.models.fitting",
    "tabb.rules.predictor": "tabb.models.predictors",
    "tabb.rules.shift_hypotheses": "tabb.models.agreed_shift",
    "tabb.rules.transport": "tabb.models.transport",
    "tabb.training.pool": "tabb.running.processes",
}
"""new name by old name"""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of `MOVED` under their old names. Comes last, so a module that is there is never hidden."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is {new} now; import that", DeprecationWarning, stacklevel=2)
        return importlib.import_module(new)

    def exec_module(self, module: ModuleType) -> None:
        # The import system has written the old name's spec over the module's own.
        loader: Any = module.__loader__
        module.__spec__ = importlib.machinery.ModuleSpec(
            module.__name__, loader, is_package=hasattr(module, "__path__")
        )


def install() -> None:
    """Let old names be imported from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())

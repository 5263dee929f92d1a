"""Results of finished runs: rows, row scores, the choice of policies, the report.

The package is a function as well: `tabb.results(folder)` is `tabb.results.run_results.results(folder)`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tabb.results.run_results import RunResult


class _Package(ModuleType):
    """Any import of a part of this package makes it an attribute of `tabb`, so it must be what `tabb.results` means."""

    def __call__(self, folder: str | Path) -> list[RunResult]:
        from tabb.results.run_results import results

        return results(folder)


sys.modules[__name__].__class__ = _Package

"""Checks of a source and a target together: the same rows, engines, what columns mean, coverage."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.spatial

from tabb.data.audit.alike import check_columns_alike
from tabb.data.audit.domains import check_domains, constant_warnings
from tabb.data.audit.finding import Finding
from tabb.data.audit.mends import sample
from tabb.data.audit.mixture import check_mixture
from tabb.data.report import Loaded
from tabb.errors import DataError
from tabb.float32 import is_constant
from tabb.shown import percent
from tabb.transitions import Transitions


def check_pair(source: Loaded, target: Loaded, mixture: bool = False) -> Iterator[Finding]:
    """Findings about two data sets as the domains of one problem; `mixture` asks for one that takes seconds."""
    names = f"{source.report.name} and {target.report.name}"
    try:
        warnings = check_domains(source.transitions, target.transitions, source.report, target.report)
    except DataError as error:
        said = str(error).removeprefix(f"source {source.report.name} and target {target.report.name}: ")
        what, _, fix = said.rpartition("; ")
        yield Finding("error", "no-pair", names, what, fix)
        return
    of_files = [
        line
        for domain, side in (("source", source), ("target", target))
        for line in constant_warnings(domain, side.transitions)
    ]
    for warning in warnings:
        if warning in of_files:
            continue  # said of the file
        what, _, fix = warning.partition("; ")
        yield Finding("warning", "pair", names, what, fix or "check that both are data of the same task")
    engines = [loaded.report.engine for loaded in (source, target)]
    if None in engines and engines != [None, None]:
        silent = (source, target)[engines.index(None)].report.name
        what = f"states no engine; the other file is of engine {engines[0] or engines[1]}"
        fix = "make sure that both come from the same physics: MuJoCo before and after 3.0 differ as much as a shift"
        yield Finding("note", "engine", silent, what, fix)
    yield from check_columns_alike(names, source.transitions, target.transitions)
    yield from check_coverage(names, source.transitions, target.transitions)
    if mixture:
        yield from check_mixture(names, source.transitions, target.transitions)


def check_coverage(names: str, source: Transitions, target: Transitions) -> Iterator[Finding]:
    """Which share of the source's states lies where the target data have been.

    There: no farther from a target row than all but 5% of target rows are from rows of other target episodes (of
    the other half of the data where there is one episode).
    """
    x, y = sample(source).observation, sample(target).observation
    if min(len(x), len(y)) < 20:
        return
    rows = np.flatnonzero(np.asarray(target.terminal) == 0)
    episode = np.asarray(target.episode)[rows[np.linspace(0, len(rows) - 1, len(y)).astype(int)]]
    if len(np.unique(episode)) == 1:
        episode = np.arange(len(y)) // (len(y) // 2 + 1)
    middle, spread = y.mean(axis=0), y.std(axis=0)
    unit = np.where(is_constant(middle, spread), 1.0, spread)
    x, y = ((z - middle) / unit for z in (x, y))
    half = episode <= np.median(np.unique(episode))
    own = np.concatenate(
        [scipy.spatial.cKDTree(y[part]).query(y[~part])[0] for part in (half, ~half) if part.any() and (~part).any()]
    )
    near = scipy.spatial.cKDTree(y).query(x)[0] <= np.quantile(own, 0.95)
    what = f"{percent(float(near.mean()))} of the source's states lie where the target data have been"
    fix = "more target data, or source data nearer to it; elsewhere no method can check the source against the target"
    yield Finding("note", "coverage", names, what, fix if near.mean() < 0.5 else "none needed")

"""The data inside the package are what the README says of them."""

from __future__ import annotations

import numpy as np

from tabb.data import check_domains, read, resolve
from tabb.environments import one_step


def test_the_bundled_pair() -> None:
    (source_file,) = resolve("bundled", "hopper-gravity-0.5", "source")
    (target_file,) = resolve("bundled", "hopper-gravity-0.5", "target")
    source, target = read(source_file), read(target_file)
    assert (source.report.rows, target.report.rows) == (50_000, 5_000)
    assert source.report.engine == target.report.engine == "legacy"
    assert source_file.stat().st_size + target_file.stat().st_size <= 4_000_000
    assert check_domains(source.transitions, target.transitions, source.report, target.report) == []


def test_each_file_comes_from_its_own_robot() -> None:
    """One step of each task's simulator gives the file's next row; the other task's does not."""
    for domain, task, other in (
        ("source", "hopper", "hopper-gravity-0.5"),
        ("target", "hopper-gravity-0.5", "hopper"),
    ):
        rows = read(*resolve("bundled", "hopper-gravity-0.5", domain)).transitions[:2000]
        unclipped = np.flatnonzero((np.abs(rows.observation).max(1) < 10) & (rows.terminal == 0))[:100]
        errors = []
        for name in (task, other):
            step = one_step(name, rows.observation[unclipped], rows.action[unclipped])
            errors.append(np.median(np.abs(step.next_observation - rows.next_observation[unclipped])))
        assert errors[0] < 1e-5
        assert errors[1] > 100 * errors[0]

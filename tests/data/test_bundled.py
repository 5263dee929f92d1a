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
    """A step of the task's own simulator gives the file's next row in flight and in contact; the other's does not."""
    for domain, task, other in (
        ("source", "hopper", "hopper-gravity-0.5"),
        ("target", "hopper-gravity-0.5", "hopper"),
    ):
        rows = read(*resolve("bundled", "hopper-gravity-0.5", domain)).transitions[:4000]
        unclipped = np.flatnonzero((np.abs(rows.observation).max(1) < 10) & (rows.terminal == 0))[::20]
        errors = []
        for name in (task, other):
            step = one_step(name, rows.observation[unclipped], rows.action[unclipped])
            errors.append(np.abs(step.next_observation - rows.next_observation[unclipped]).max(1))
        assert np.quantile(errors[0], 0.9) < 1e-4
        assert np.median(errors[1]) > 1e-2

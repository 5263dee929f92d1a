"""A plan of runs, on this machine or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabb.commands.options import jobs_of
from tabb.cores import core_count
from tabb.errors import RunError, TabbError, UsageError
from tabb.running.cluster import Cluster
from tabb.running.plan import unfinished
from tabb.running.processes import run_plan
from tabb.training.spec import RunSpec


def jobs_for(specs: Iterable[RunSpec], asked: int | None) -> int:
    """How many of these runs to carry out at once: one, unless told, where they take steps in what may be a robot."""
    return 1 if asked is None and any(spec.own_steps for spec in specs) else jobs_of(asked)


def check_ray(options: Any) -> None:
    """Before data are read: raise `UsageError` for options of a cluster that cannot work and where Ray is missing.

    Raises `RunError` where nobody answers at `host:port`.
    """
    if options.ray is None:
        if options.ray_gpus or options.ray_retries != Cluster.retries:
            raise UsageError("--ray-gpus and --ray-retries are options of a cluster: name it with --ray ADDRESS")
        return
    from tabb.running.cluster.connection import reach, require_ray

    cluster = Cluster(options.ray, options.ray_gpus, options.ray_retries)
    if getattr(options, "track", None) is not None:
        raise UsageError("--track with --ray: nodes keep nothing; send the finished runs with `tabb track FOLDER`")
    if getattr(options, "start", None) is not None:
        raise UsageError("--start with --ray: nodes do not have the run to start from; leave --ray out")
    for domain, name in (("target", "env"), ("source", "source_env")):
        online = getattr(options, "online", None)
        if online is not None and online.steps(domain) and getattr(options, name) is not None:
            raise UsageError(
                f"--online.{domain}-steps with --ray: steps in {getattr(options, name)} are taken at this machine, "
                "where a robot would be; leave --ray out, or name a task"
            )
    if options.jobs is not None:
        jobs_of(options.jobs)
    require_ray()
    reach(cluster)


def tell_answer(root: Path) -> None:
    """Print which policy of finished runs to take, where TABB's and the source's were trained on the same two logs.

    The runs are finished whatever becomes of it: where it cannot be found (a data file is gone), a line says why.
    """
    from tabb.results.answer import give_answer

    try:
        words = give_answer(root)
    except TabbError as error:
        print(f"tabb: cannot say which policy to take: {error}", file=sys.stderr)
        return
    if words is not None:
        print(f"\n{words}")


def carry_out(root: Path, options: Any, only: Path | None = None) -> RunError | None:
    """Run the plan in `root` (`only` the cells in a folder of it) here or on the cluster that the options name.

    Returns the error that names the runs that failed, for after the results of the others are shown; None if none did.
    """
    if options.ray is None:
        jobs = jobs_for((cell.spec for cell in unfinished(root, only)), options.jobs)
        return run_plan(root, jobs, options.progress, getattr(options, "track", None), only)
    from tabb.running.cluster.plan import run_plan_on

    cluster = Cluster(options.ray, options.ray_gpus, options.ray_retries)
    # No backend of JAX is started in the driver: it would take an accelerator's memory from the cells.
    return run_plan_on(cluster, root, options.jobs, options.jobs or core_count(), options.progress, only)

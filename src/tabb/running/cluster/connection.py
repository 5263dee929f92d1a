"""Connects to a Ray cluster and disconnects, quietly; checks the nodes before anything trains."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from tabb.errors import RunError, UsageError
from tabb.running.cluster.options import Cluster
from tabb.running.cluster.versions import versions
from tabb.training.signals import STOPS, give_back

REACH_SECONDS = 5.0
LOOK_SECONDS = 120.0
"""for a node to start its first worker and import tabb"""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it Ray warns at each start
}


def require_ray() -> Any:
    """The module ray. Raises `UsageError` where the extra is missing."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError:
        raise UsageError('a cluster needs Ray: pip install "tabb-rl[ray]" (on every node)') from None
    return ray


@contextlib.contextmanager
def connected(cluster: Cluster, cpus: int) -> Iterator[Any]:
    """Ray, connected to the cluster; `local` starts one with so many CPUs and ends it afterwards.

    Raises `RunError` (one line) where there is no such cluster, or one of another version.
    """
    ray = require_ray()
    reach(cluster)
    local = {"num_cpus": cpus, "include_dashboard": False} if cluster.address == "local" else {}
    # Ray takes SIGTERM for itself, and prints what raylets say; both are given back.
    handlers = {number: signal.getsignal(number) for number in STOPS}
    with warnings.catch_warnings(), _silent(ray):
        warnings.simplefilter("ignore")
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError, OSError, AssertionError) as error:
            raise RunError(f"--ray {cluster.address}: {_reason(str(error))}") from None
        try:
            yield ray
        finally:
            ray.shutdown()
            give_back(handlers)


def reach(cluster: Cluster) -> None:
    """Raise `RunError` (one line) where nobody answers at `host:port`: Ray itself would try for minutes."""
    if not cluster.host:
        return
    try:
        socket.create_connection((cluster.host, cluster.port), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise RunError(
            f"--ray {cluster.address}: cannot be reached ({error.strerror or error}); "
            "check the address and that `ray start --head` runs there"
        ) from None


def _reason(text: str) -> str:
    """What to do about an error of `ray.init`."""
    if "Version mismatch" in text:
        detail = " ".join(text.partition("Version mismatch:")[2].split())
        return f"another version of Ray or Python ({detail}); install the same on every node"
    if "Could not find any running Ray" in text:
        return "no Ray runs on this machine; `ray start --head` starts a cluster, --ray local one for this command"
    if "node" in text.lower():
        return (
            "this machine is no node of the cluster; join it first (`ray start --address=HOST:PORT --num-cpus=0` "
            "joins without work)"
        )
    return f"cannot be used ({text.strip().splitlines()[0][:200] if text.strip() else 'no reason given'})"


@contextlib.contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Keep Ray's processes from printing about themselves (a node that died, with its last log lines).

    `log_to_driver=False` spares the output of tasks alone. Where Ray changes the function's place, it is printed.
    """
    module = sys.modules.get("ray._private.worker")
    before: Callable[..., None] | None = getattr(module, "print_to_stdstream", None)
    if module is None or before is None:
        yield
        return
    module.print_to_stdstream = lambda *_, **__: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.print_to_stdstream = before  # type: ignore[attr-defined]


def task_of() -> Callable[..., Iterator[dict[str, Any]]]:
    """What a node runs: `task(versions, job)`, one cell; without a job it only says what is wrong with the node.

    Made in here so that Ray sends its code, not its name: a node without tabb can then say so.
    """

    def task(here: dict[str, str], job: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        import platform

        def message(problem: str | None) -> dict[str, Any]:
            return {"files": {}, "log": b"", "failed": problem}

        name = platform.node()
        try:
            from tabb.running.cluster.node import run_cell
            from tabb.running.cluster.versions import difference, versions
        except ImportError as error:
            yield message(f"node {name} cannot import tabb ({error}): install there what is installed here")
            return
        problem = difference(here, versions(), name)
        if problem is not None or job is None:
            yield message(problem)
            return
        yield from run_cell(job, name)

    return task


def look_at_nodes(ray: Any, remote: Any) -> tuple[int, float, float]:
    """The numbers of nodes, CPUs and GPUs of the cluster. Raises `RunError` for a node that has other versions."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    working = [node for node in nodes if node["Resources"].get("CPU", 0) or node["Resources"].get("GPU", 0)]
    here = versions()
    looks = []
    for node in working:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        one = remote.options(num_cpus=0, num_gpus=0, scheduling_strategy=where).remote(here, None)
        looks.append((node["NodeManagerHostname"], one))
    for name, look in looks:
        try:
            (ready, _) = ray.wait([look], timeout=LOOK_SECONDS)
            problem = ray.get(next(look))["failed"] if ready else f"node {name} does not answer; look into its Ray logs"
        except ray.exceptions.RayError as error:
            problem = f"node {name} cannot run a task ({type(error).__name__}); look into its Ray logs"
        if problem:
            raise RunError(problem)
    total = {kind: sum(node["Resources"].get(kind, 0.0) for node in working) for kind in ("CPU", "GPU")}
    return len(working), total["CPU"], total["GPU"]

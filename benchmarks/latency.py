"""Latency of one action on one core: `Policy.act`, the documentation's NumPy lines, onnxruntime and JAX.

    taskset -c 0 python benchmarks/latency.py [--calls 20000] [--json FILE]

One raw observation goes in and one action comes out. Networks are 256 x 256 with a robot's sizes: one, or five that act
as their mean, or BCQ's policy of 100 candidates. benchmarks/README.md explains the table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np

HIDDEN = (256, 256)
ROWS = (
    *(("hopper", "policy"), ("walker2d", "policy"), ("ant", "policy")),
    *(("walker2d", "five networks"), ("ant", "five networks"), ("walker2d", "BCQ")),
)
TURN = 500
"""calls in a row before the next contender's turn; a twentieth for BCQ's policy"""
DOCS = Path(__file__).parents[1] / "docs" / "export.md"


def random_layers(draw: np.random.Generator, *sizes: int) -> Any:
    """PyTorch's usual initial weights; the arithmetic is that of a trained network."""
    bounds = [(given, out, np.float32(1 / np.sqrt(given))) for given, out in itertools.pairwise(sizes)]
    return (
        tuple(draw.uniform(-1, 1, (given, out)).astype(np.float32) * bound for given, out, bound in bounds),
        tuple(draw.uniform(-1, 1, out).astype(np.float32) * bound for _, out, bound in bounds),
    )


def random_policy(kind: str, observation: int, action: int) -> Any:
    """A random policy of that kind; BCQ's has its default widths."""
    from tabb.policy import Policy
    from tabb.policy.candidates import CandidatePolicy

    draw = np.random.default_rng(0)
    mean = draw.normal(size=observation).astype(np.float32)
    scale = draw.uniform(0.1, 2.0, observation).astype(np.float32)
    if kind == "policy":
        return Policy(mean, scale, *random_layers(draw, observation, *HIDDEN, action))
    if kind == "five networks":
        each = [random_layers(draw, observation, *HIDDEN, action) for _ in range(5)]
        weights, biases = ([np.stack(layer) for layer in zip(*part, strict=True)] for part in zip(*each, strict=True))
        return Policy(mean, scale, tuple(weights), tuple(bias[:, None] for bias in biases))
    return CandidatePolicy(
        mean,
        scale,
        *random_layers(draw, observation + 2 * action, 750, 750, action),
        {},
        random_layers(draw, observation + action, 400, 300, action),
        random_layers(draw, observation + action, 400, 300, 1),
        np.clip(draw.normal(size=(100, 2 * action)), -0.5, 0.5).astype(np.float32),
        0.05,
    )


def contenders(policy: Any, folder: Path) -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Name and function (from an observation [S] to an action [A]) of each contender."""
    import jax
    import jax.export
    import onnxruntime

    from tabb import export
    from tabb.policy import Policy

    files = {format: export(policy, format, folder / f"policy.{format}") for format in ("npz", "onnx", "stablehlo")}
    yield "Policy.act", policy.act

    name = "npz" if type(policy) is Policy else "npz-candidates"
    lines = re.search(rf"^```python {name}\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert lines is not None
    scope: dict[str, Any] = {}
    exec(lines[1].replace("policy.npz", str(files["npz"])), scope)
    yield "NumPy lines", scope["act"]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(files["onnx"], options, providers=["CPUExecutionProvider"])
    yield "onnxruntime", lambda observation: session.run(["action"], {"observation": observation[None]})[0][0]

    program = jax.jit(jax.export.deserialize(files["stablehlo"].read_bytes()).call)
    yield "JAX", lambda observation: np.asarray(program(observation[None]))[0]


def measure(kind: str, observation: int, action: int, calls: int) -> dict[str, dict[str, float]]:
    """Microseconds of one call; contenders take turns, and their actions must agree."""
    policy = random_policy(kind, observation, action)
    turn = TURN // 20 if kind == "BCQ" else TURN
    inputs = np.random.default_rng(1).normal(size=(turn, observation)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        acts = dict(contenders(policy, Path(folder)))
        for name, act in acts.items():
            # Two of BCQ's candidates that are nearly equal may change places.
            close = np.abs([act(x) for x in inputs] - policy.act(inputs)).max(axis=1) < 1e-5
            assert close.mean() >= (0.99 if kind == "BCQ" else 1.0), name
        taken: dict[str, list[int]] = {name: [] for name in acts}
        for _ in range(max(1, calls // TURN)):
            for name, act in acts.items():
                for x in inputs:
                    begin = time.perf_counter_ns()
                    act(x)
                    taken[name].append(time.perf_counter_ns() - begin)
    return {
        name: {"median_us": float(np.median(times)) / 1e3, "p99_us": float(np.quantile(times, 0.99)) / 1e3}
        for name, times in taken.items()
    }


def parse() -> argparse.Namespace:
    from timing import threads

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="calls of each")
    parser.add_argument("--note", default="", help="a line about the machine for the result file")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    if options.calls < 1:
        parser.error("--calls must be at least 1")
    if threads() > 1:
        parser.error("pin the process to one core (taskset -c 0): its libraries then run one thread each")
    return options


def main() -> None:
    options = parse()
    from random_data import ROBOTS
    from timing import machine, rounded

    results = {}
    print("| robot | Policy.act | NumPy lines | onnxruntime | JAX |\n|---|---|---|---|---|")
    for robot, kind in ROWS:
        row = robot if kind == "policy" else f"{robot}, {kind}"
        results[row] = measure(kind, ROBOTS[robot].observation, ROBOTS[robot].action, options.calls)
        cells = [f"{times['median_us']:.1f} / {times['p99_us']:.1f}" for times in results[row].values()]
        print(f"| {' | '.join([row, *cells])} |", flush=True)
    if options.json:
        output = {
            "command": " ".join(["python", *sys.argv]),
            "note": options.note,
            "machine": machine(),
            "hidden": HIDDEN,
            "calls": options.calls,
            "microseconds": results,
        }
        options.json.write_text(json.dumps(rounded(output), indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Rows that stay in a file: memory of reading, training and auditing them, and the speed of updates against memory.

    python benchmarks/larger_than_memory.py [--rows 200000] [--fits 1000000] [--folder FOLDER] [--json FILE]

The data are random, with the sizes of hopper; 50,000,000 rows are a file of 3.1 GB and a store of 6.0 GB.
benchmarks/README.md explains the numbers.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

OBSERVATION, ACTION, EPISODE = 11, 3, 1000
AT_ONCE = 1000
"""episodes that are written at once"""
UPDATES, ROUNDS = 300, 9
"""updates of a turn, and turns of each contender"""
TRAINED = 3_000
"""updates of the whole run whose memory is measured"""
BYTES = 4 * (2 * OBSERVATION + ACTION + 3)
"""of a row in memory"""


def write_log(path: Path, rows: int, seed: int = 0) -> None:
    """Random walks of 1,000 steps in the layout of D4RL, written piece by piece."""
    generator = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        shapes = {"observations": (OBSERVATION,), "actions": (ACTION,), "rewards": ()}
        for key, shape in shapes.items():
            file.create_dataset(key, (rows, *shape), np.float32)
        for key in ("terminals", "timeouts"):
            file.create_dataset(key, (rows,), bool)
        for begin in range(0, rows, AT_ONCE * EPISODE):
            count = min(AT_ONCE * EPISODE, rows - begin)
            there, episodes = slice(begin, begin + count), -(-count // EPISODE)
            steps = generator.standard_normal((episodes, EPISODE, OBSERVATION), np.float32)
            np.cumsum(steps, axis=1, out=steps)
            file["observations"][there] = 0.05 * steps.reshape(-1, OBSERVATION)[:count]
            file["actions"][there] = generator.uniform(-1, 1, (count, ACTION))
            file["rewards"][there] = generator.standard_normal(count, np.float32)
            file["timeouts"][there] = (np.arange(begin, begin + count) + 1) % EPISODE == 0
        file["timeouts"][rows - 1] = True


class Peak:
    """The most memory in MB that this process had in a block: without mapped files (RssAnon), and all (RSS)."""

    def __enter__(self) -> Peak:
        self.anonymous = self.all = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.anonymous = max(self.anonymous, int(lines["RssAnon"].split()[0]) / 1000)
            self.all = max(self.all, int(lines["VmRSS"].split()[0]) / 1000)


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds, by the wall and on the processor, and peak memory of a call."""
    with Peak() as peak:
        begin = time.perf_counter(), time.process_time()
        work()
        seconds = [
            round(now - then, 2) for now, then in zip((time.perf_counter(), time.process_time()), begin, strict=True)
        ]
    return {
        "seconds": seconds[0],
        "processor_seconds": seconds[1],
        "anonymous_mb": round(peak.anonymous),
        "rss_mb": round(peak.all),
    }


def part_load(source: str, target: str) -> dict[str, float]:
    """Read a file into memory: peak memory over what the process had before, in units of its columns."""
    from tabb.data import read

    found: dict[str, int] = {}
    with Peak() as idle:
        time.sleep(0.1)
    result = measured(lambda: found.update(rows=len(read(source).transitions)))
    result["times_columns"] = round((result["anonymous_mb"] - idle.anonymous) * 1e6 / (found["rows"] * BYTES), 2)
    return result


def part_store(source: str, target: str) -> dict[str, float]:
    """Make the store of a file."""
    from tabb.data import read

    return measured(lambda: read(source, store=True))


def part_open(source: str, target: str) -> dict[str, float]:
    """Open the store of a file: its content is hashed to find it."""
    return part_store(source, target)


def part_train(source: str, target: str) -> dict[str, float]:
    """A whole run from the store: what is there before the first update, and its updates."""
    import tabb

    found: dict[str, float] = {}

    def run() -> None:
        data = tabb.load(source, store=True), tabb.load(target)
        settings = tabb.Settings(updates=TRAINED, evaluations=0)
        (one,) = tabb.train(tabb.Pooled(), *data, settings=settings)
        found["updates_per_second"] = round(TRAINED / one.seconds["train"], 1)
        found["prepare_seconds"] = round(one.seconds["prepare"], 1)

    return measured(run) | found


def part_audit(source: str, target: str) -> dict[str, float]:
    """Audit the file."""
    from tabb.data.audit import audit

    return measured(lambda: audit(source, store=True))


def part_speed(source: str, target: str, small: str) -> dict[str, Any]:
    """Updates per second from the store of `source`, and of the rows of `small` in memory, in turns."""
    import jax
    import jax.numpy as jnp

    import tabb
    from tabb.batch import Sizes, fit_normaliser, make_domains
    from tabb.training.drawing import pack_data
    from tabb.training.loop import Program, compiled_updates
    from tabb.training.stored_rows import Feed, HostRows, StoredUpdates
    from tabb.transitions import StoredRows
    from timing import take_turns

    there, here = tabb.load(target), tabb.load(small)
    program = Program(tabb.IQL(), tabb.Pooled(), UPDATES * (ROUNDS + 1))
    sizes, key = Sizes(OBSERVATION, ACTION), jax.random.key(0)
    data = pack_data(make_domains(here, there), {})
    rows = StoredRows(tabb.load(source, store=True)), StoredRows(there)
    feed = Feed(program, HostRows(*rows, fit_normaliser(*rows, "pooled"), *[None] * 5), key, UPDATES)
    ends = range(UPDATES, program.updates, UPDATES)

    def in_turns(clock: Callable[[], float]) -> dict[str, Any]:
        states = {kind: program.init(sizes, jax.random.key(1)) for kind in ("memory", "file")}
        done = dict.fromkeys(states, 0)
        from_file = StoredUpdates(program, feed, (), key, states["file"], 0, ends)
        loops: dict[str, Any] = {"memory": compiled_updates, "file": from_file}
        inputs: dict[str, Any] = {"memory": (program, (), data), "file": ((), feed)}

        def turn(kind: str) -> float:
            bounds = (jnp.asarray(done[kind] + n, jnp.int32) for n in (0, UPDATES))
            begin = clock()
            states[kind], _ = jax.block_until_ready(loops[kind](*inputs[kind], key, states[kind], *bounds))
            done[kind] += UPDATES
            return (clock() - begin) / UPDATES

        *_, times = take_turns({kind: functools.partial(turn, kind) for kind in states}, ROUNDS + 1)
        from_file.close()
        speeds = {kind: [round(1 / spent, 1) for spent in times[kind]] for kind in states}
        shares = [round(file / memory, 3) for file, memory in zip(speeds["file"], speeds["memory"], strict=True)]
        leaves = zip(*(jax.tree.leaves(states[kind].policy) for kind in states), strict=True)
        same = {"same": all(bool((a == b).all()) for a, b in leaves)} if source == small else {}
        return speeds | {"share": shares} | same

    return {"wall": in_turns(time.perf_counter), "processor": in_turns(time.process_time)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--fits", type=int, default=1_000_000, help="rows that fit into memory; not more than --rows")
    parser.add_argument("--folder", type=Path, help="where the data and their store are; a temporary one if not given")
    parser.add_argument("--parts", nargs="+", default=["load", "store", "open", "train", "speed", "audit"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        source, target, small = options.files
        arguments = (source, target, small) if options.part == "speed" else (source, target)
        print("RESULT", json.dumps(globals()[f"part_{options.part}"](*arguments)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {"large": options.rows, "small": min(options.fits, options.rows), "target": 5_000}
        files = {name: folder / f"{name}-{rows}.hdf5" for name, rows in sizes.items()}
        if sizes["small"] == sizes["large"]:
            files["small"] = files["large"]
        for number, (name, file) in enumerate(files.items()):
            if not file.exists():
                write_log(file, sizes[name], number)
        environment = os.environ | {"TABB_CACHE": str(folder / "cache")}
        results: dict[str, Any] = {"rows": options.rows, "fits": sizes["small"], "file_mb": size_mb(files["large"])}
        if options.json and options.json.exists():  # parts that are not measured now stay
            before = json.loads(options.json.read_text())
            results = before | results if before["rows"] == options.rows else results
        for part in options.parts:
            source = files["small"] if part == "load" else files["large"]
            command = [sys.executable, __file__, "--part", part, "--files", str(source), str(files["target"])]
            done = subprocess.run(
                [*command, str(files["small"])], env=environment, capture_output=True, text=True, check=False
            )
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                raise SystemExit(f"{part}: {done.stderr}")
            results[part] = json.loads(lines[0].removeprefix("RESULT "))
            print(f"{part:6} {results[part]}", flush=True)
        results["store_mb"] = sum(size_mb(file) for file in folder.rglob("cache/stores/*/*"))
    if options.json:
        from timing import machine

        options.json.write_text(json.dumps(results | {"machine": machine()}, indent=2) + "\n")


def size_mb(file: Path) -> int:
    return round(file.stat().st_size / 1e6)


if __name__ == "__main__":
    main()

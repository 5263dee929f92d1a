"""Speed of training: updates per second, relative to what this machine's matrix products allow.

    python benchmarks/updates.py [--robot hopper] [--updates 200] [--rounds 9] [--torch] [--json FILE]

The data are random. benchmarks/README.md explains the table.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from contenders import RUN, Contender, our_contender
from products import Product, fastest_form, flops
from random_data import ROBOTS, random_domains
from tabb.backbones import own_backbone
from tabb.batch import Domains, Sizes
from tabb.rules import TABB, LatentPredictor, Pooled, ResidualPredictor, Rule, TargetOnly
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds
from timing import CLOCKS, Times, machine, rounded, seconds, take_turns, threads

SEEDS = 16
Clock = Callable[[Callable[[], Any]], float]
"""seconds of a call"""

POOLED, TORCH = "pooled IQL", "ODRL-style PyTorch"

# The speed of an update does not depend on how well a rule's models are fitted, so one update is enough.
RULES: dict[str, Rule] = {
    POOLED: Pooled(),
    "target-only IQL": TargetOnly(),
    "TABB": TABB(predictor=ResidualPredictor(updates=1)),
    "TABB, latent": TABB(predictor=LatentPredictor(updates=1)),
}


def torch_contender(domains: Domains, clock: Clock, counts: collections.Counter[Product]) -> Contender:
    """The same update as pooled IQL, in PyTorch; `counts` are pooled IQL's."""
    from odrl_torch import TorchIQL

    learner = TorchIQL(domains.source, domains.target, RUN, threads())

    def run(count: int) -> None:
        for _ in range(count):
            learner.update()

    run(5)
    return Contender(lambda count: clock(lambda: run(count)) / count, counts)


def seeds_result(domains: Domains, sizes: Sizes, updates: int, rounds: int, clock: Clock) -> dict[str, float]:
    """Updates per second of pooled IQL with one seed, and of all seeds together with a seed axis."""
    learner = Program(own_backbone(Pooled()), Pooled(), RUN)
    data = pack_data(domains, {})
    keys = jax.random.split(jax.random.key(0), SEEDS)
    states = {1: learner.init(sizes, keys[0]), SEEDS: jax.vmap(lambda key: learner.init(sizes, key))(keys)}

    def turn(seeds: int) -> float:
        loop, key = (compiled_updates, keys[0]) if seeds == 1 else (compiled_updates_of_seeds, keys)

        def run() -> Any:
            states[seeds], metrics = loop(learner, (), data, key, states[seeds], 0, updates)
            return states[seeds], metrics

        return clock(run) / (updates * seeds)

    contenders = {seeds: functools.partial(turn, seeds) for seeds in states}
    *_, times = take_turns(contenders, rounds + 1)  # the first round compiles and so is never the fastest
    return {f"{seeds} seeds": 1 / times[seeds].least for seeds in states}


def limit(counts: collections.Counter[Product], times: dict[Any, Times]) -> Times:
    """Seconds of the products of one update at their measured rates."""
    return Times(
        sum(count * times[product].least for product, count in counts.items()),
        sum(count * times[product].median for product, count in counts.items()),
    )


def summary(name: str, contender: Contender, times: dict[Any, Times]) -> dict[str, Any]:
    """The numbers of one contender for the table and the result file."""
    taken, pooled, bound = times[name], times[POOLED], limit(contender.counts, times)
    result: dict[str, Any] = {"gflop_per_update": flops(contender.counts) / 1e9}
    if contender.compile_seconds is not None:
        result["compile_seconds"] = contender.compile_seconds
    for kind in Times._fields:
        ours, theirs, least = (getattr(of, kind) for of in (taken, pooled, bound))
        result[kind] = {
            "updates_per_second": 1 / ours,
            "time_relative_to_pooled": ours / theirs,
            "limit_updates_per_second": 1 / least,
            "share_of_limit": least / ours,
        }
    return result


def print_table(console: Console, results: dict[str, dict[str, Any]], title: str) -> None:
    table = Table(title=title, caption="each cell: best turn / median turn")
    table.add_column("learner")
    for heading in ("compile s", "updates/s", "time / pooled", "GFLOP", "limit/s", "share of limit"):
        table.add_column(heading, justify="right")

    def both(result: dict[str, Any], field: str, form: str) -> str:
        return " / ".join(format(result[kind][field], form) for kind in Times._fields)

    for name, result in results.items():
        compiled = result.get("compile_seconds")
        table.add_row(
            name,
            "-" if compiled is None else f"{compiled:.1f}",
            both(result, "updates_per_second", ".0f"),
            both(result, "time_relative_to_pooled", ".2f"),
            f"{result['gflop_per_update']:.3f}",
            both(result, "limit_updates_per_second", ".0f"),
            both(result, "share_of_limit", ".0%"),
        )
    console.print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", choices=sorted(ROBOTS), default="hopper", help="robot whose sizes the data have")
    parser.add_argument("--updates", type=int, default=200, help="updates per turn")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender")
    parser.add_argument("--torch", action="store_true", help="also time ODRL-style PyTorch (needs torch)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: on a shared core (one thread only)")
    parser.add_argument("--note", default="", help="a line about the machine for the result file")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    if options.clock == "processor" and threads() > 1:
        parser.error("--clock processor counts all threads together: pin the process to one core (taskset -c 0)")
    return options


def main() -> None:
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else 120)
    sizes = ROBOTS[options.robot]
    domains = random_domains(sizes)
    described = machine()
    console.print(f"{described['processor']}, {described['device']}: {threads()} thread(s) of {described['cores']}")

    clock = functools.partial(seconds, options.clock)
    contenders = {
        name: our_contender(own_backbone(rule), rule, domains, sizes, options.clock) for name, rule in RULES.items()
    }
    if options.torch:
        contenders[TORCH] = torch_contender(domains, clock, contenders[POOLED].counts)
    shapes = set().union(*(contender.counts for contender in contenders.values()))
    turns: dict[Any, Callable[[], float]] = {
        name: functools.partial(contender.turn, options.updates) for name, contender in contenders.items()
    }
    with console.status(f"finding the fastest form of {len(shapes)} matrix products"):
        turns |= {shape: fastest_form(shape, clock) for shape in sorted(shapes)}
    with console.status(f"measuring {options.rounds} rounds"):
        *_, times = take_turns(turns, options.rounds)

    results = {name: summary(name, contender, times) for name, contender in contenders.items()}
    print_table(console, results, f"{options.robot}: {options.rounds} turns of {options.updates} updates")
    output = {
        "command": " ".join(["python", *sys.argv]),
        "note": options.note,
        "machine": described,
        "robot": options.robot,
        "clock": options.clock,
        "updates_per_turn": options.updates,
        "rounds": options.rounds,
        "learners": results,
        "products": [
            {
                **shape._asdict(),
                "microseconds": times[shape].least * 1e6,
                "gflop_per_second": shape.flops / times[shape].least / 1e9,
            }
            for shape in sorted(shapes)
        ],
    }
    if options.torch:
        ratio = {kind: getattr(times[TORCH], kind) / getattr(times[POOLED], kind) for kind in Times._fields}
        console.print(f"pooled IQL is {ratio['least']:.2f} / {ratio['median']:.2f} times as fast as {TORCH}")
        output["times_as_fast_as_torch"] = ratio
    if jax.default_backend() == "cpu":
        console.print("one seed against 16 with a seed axis: skipped, it pays on an accelerator only")
    else:
        output["updates_per_second_of_seeds"] = seeds_result(domains, sizes, options.updates, options.rounds, clock)
        console.print(output["updates_per_second_of_seeds"])
    if options.json:
        options.json.write_text(json.dumps(rounded(output), indent=2) + "\n")
        console.print(f"written: {options.json}")


if __name__ == "__main__":
    main()

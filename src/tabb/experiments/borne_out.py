"""Which source rows hold in the target? A run's trust and likeness to the target's rows, against the simulator.

For a task with a simulator the truth of a source row can be had: its oracle Bellman error under the run's own V
(`tabb.evaluation.oracle`). Here the most trusted shares of the rows are kept, once by the run's TBM⁺ and once by their
distance to the nearest target row; a good measure of trust keeps rows with small errors.

    python -m tabb.experiments.borne_out runs/demo/tabb/seed0 --out borne-out.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.environments.tasks import Task, get_task
from tabb.evaluation.figures import new_figure, save_png
from tabb.evaluation.oracle import Truth, ask_target, kept_error, oracle_error, rank_correlation, usable_rows
from tabb.experiments.oracle import distances
from tabb.results.row_scores import Finished, open_run, scores_of

ROWS = 2_000
"""source rows that are asked of the simulator: a second"""
SHARES = tuple(np.linspace(0.05, 1.0, 20).round(2).tolist())
HALF = SHARES.index(0.5)


class BorneOut(NamedTuple):
    """The oracle error of the source rows that two measures trust most, relative to that of all rows."""

    task: str
    trust: NDArray[np.float64]
    """mean error of the share `SHARES` of the rows with the smallest TBM⁺, over that of all"""
    likeness: NDArray[np.float64]
    """the same of the rows nearest to a target row"""
    truth: NDArray[np.float64]
    """the same of the rows with the smallest errors: no measure is better"""
    correlations: tuple[float, float]
    """rank correlation of TBM⁺ and of the distance with the error"""


def own_error(run: Finished, task: Task, sample: NDArray[np.intp], truth: Truth) -> NDArray[np.float64]:
    """The oracle error of source rows `sample` under the run's own V, in units of return."""
    see = run.rule.see_state
    value = jax.jit(lambda states: run.value(see(run.models, run.domains.normaliser(states))))
    rows = run.source.transitions[sample]
    return oracle_error(lambda states: np.asarray(value(jnp.asarray(states))), rows, truth, run.backbone.discount)


def borne_out(folder: Path) -> BorneOut:
    """What the target's simulator says of the source rows of a finished run of TABB, in a task of the catalogue."""
    run = open_run(folder)
    task = get_task(run.config["task"])
    sample = usable_rows(task, run.source.transitions, ROWS)
    error = own_error(run, task, sample, ask_target(task, run.source.transitions[sample]))
    trust = scores_of(run, folder).columns["tbm_plus"][sample]
    distance = distances(run.domains, sample)

    def kept(ranking: Any) -> NDArray[np.float64]:
        return kept_error(ranking, error, SHARES) / float(error.mean())

    correlations = rank_correlation(trust, error), rank_correlation(distance, error)
    return BorneOut(task.name, kept(trust), kept(distance), kept(error), correlations)


def as_json(result: BorneOut) -> dict[str, Any]:
    """The result as JSON types, with the shares that its curves are of."""
    return {"shares": list(SHARES)} | {
        name: value.round(4).tolist() if isinstance(value, np.ndarray) else value
        for name, value in result._asdict().items()
    }


def in_words(result: BorneOut) -> str:
    """The finding in two lines."""
    trust, likeness = result.trust[HALF], result.likeness[HALF]
    return (
        f"The half of the source rows that TABB trusts most has {trust:.2f} times the mean error in the target's "
        f"simulator;\nthe half most like target rows has {likeness:.2f} times."
    )


def draw(result: BorneOut, path: Path) -> None:
    """Draw the error of the rows kept against the share kept."""
    figure = new_figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    lines = (
        ("most like target rows first", result.likeness, "#56b4e9"),
        ("most trusted by TABB first", result.trust, "#d55e00"),
        ("the best there is: the simulator itself", result.truth, "#bbbbbb"),
    )
    for label, curve, colour in lines:
        axes.plot(SHARES, curve, color=colour, linewidth=2, label=label)
    axes.axhline(1.0, color="#000000", linewidth=0.6, linestyle=":")
    axes.set_title(f"Which source rows hold in the target? ({result.task})", loc="left", fontsize=10)
    axes.set_xlabel("share of the source rows kept")
    axes.set_ylabel("their error in the target's simulator\n(1: that of all source rows)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1.1, float(np.max([result.trust, result.likeness])) * 1.05))
    figure.legend(frameon=False, fontsize=9, loc="outside lower left", ncols=2)
    save_png(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run of tabb in a task of the catalogue")
    parser.add_argument("--out", type=Path, default=Path("borne-out.png"), help="the picture")
    options = parser.parse_args()
    result = borne_out(options.run)
    draw(result, options.out)
    print(in_words(result))
    print(f"picture: {options.out}")


if __name__ == "__main__":
    main()

"""Does the model of the target domain know how wrong it is? Predicted against real errors on rows of another quality.

The model (`tabb.models.target_model`, several networks) is fitted to the source and to the first four fifths of medium
target rows. Its squared error on a row, mean over the entries of the state in spreads of their changes, is predicted by

    e² ≈ κ σ² + ρ δ² + c        σ: spread of the networks      δ: what the domain changes in their mean answer

with κ, ρ, c ≥ 0 from the last fifth (non-negative least squares). Then it is asked for expert target rows, which it has
never seen and whose policy goes elsewhere. A picture has the real error against the predicted one, ten groups of rows
by the predicted one.

    TABB_DATA=... python -m tabb.experiments.reliability --out benchmarks/results/reliability
    python -m tabb.experiments.reliability --table benchmarks/results/reliability        draws and prints it again
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tabb.batch import Domains, make_domains, on_device
from tabb.evaluation.figures import new_figure, save_png
from tabb.evaluation.oracle import rank_correlation
from tabb.experiments.extraction import load
from tabb.files import read_json, write_json
from tabb.models.target_model import TargetModel, TargetModelConfig, fit_target_model
from tabb.provenance import environment
from tabb.transitions import Transitions

TASKS = ("hopper-gravity-0.5", "hopper-kinematic", "walker2d-gravity-0.5", "halfcheetah-gravity-0.5")
MEMBERS = 5
SHARE = 0.8
"""of the medium target rows that the model is fitted to"""
GROUPS = 10
FORMS = {"spread": (0, 2), "spread and shift": (0, 1, 2)}
"""predictions of the error by the parts that they are made of: σ², δ², 1"""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def parts_of(model: TargetModel, rows: Transitions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row that does not end the task: (σ², δ², 1) [n, 3] and the real squared error e² [n].

    In spreads of the changes of state, means over the entries.
    """
    rows = rows[np.flatnonzero(np.asarray(rows.terminal) == 0)]
    answers = model.outputs(rows.observation, rows.action)[..., :-2]
    of_source = model.outputs(rows.observation, rows.action, 0.0)[..., :-2]
    middle = jnp.mean(answers, axis=0)
    goal = (rows.next_observation - rows.observation) / model.change_scale
    spread = jnp.mean(jnp.var(answers, axis=0, ddof=1), axis=-1)
    shift = jnp.mean((middle - jnp.mean(of_source, axis=0)) ** 2, axis=-1)
    error = jnp.mean((middle - goal) ** 2, axis=-1)
    columns = np.stack([np.asarray(spread), np.asarray(shift), np.ones(len(goal))], axis=1)
    return columns.astype(np.float64), np.asarray(error, np.float64)


def fit_error(parts: NDArray[np.float64], error: NDArray[np.float64], used: Sequence[int]) -> NDArray[np.float64]:
    """κ, ρ, c ≥ 0 of e² ≈ κ σ² + ρ δ² + c by least squares; 0 for parts that are not `used`.

    Rows count by 1 over their usual squared error, or the few large ones would decide alone.
    """
    found = np.zeros(parts.shape[1])
    scale = np.maximum(np.median(error), parts[:, 0])[:, None]
    found[list(used)], _ = nnls(parts[:, list(used)] / scale, error / scale[:, 0])
    return found


def groups(predicted: NDArray[np.float64], error: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Root mean squares of predicted and real errors, in groups of rows from small to large predictions."""
    order = np.array_split(np.argsort(predicted, kind="stable"), GROUPS)
    return (
        [round(float(np.sqrt(predicted[rows].mean())), 5) for rows in order],
        [round(float(np.sqrt(error[rows].mean())), 5) for rows in order],
    )


def rows_of(task: str) -> tuple[Domains, dict[str, Transitions]]:
    """What a model is fitted to, and rows that it never sees, normalised alike: those held out, and expert ones."""
    source, target, expert = (
        load("medium", task, "source"),
        load("medium", task, "target"),
        load("expert", task, "target"),
    )
    count = int(SHARE * len(target))
    domains = make_domains(source, target[:count], "pooled", (1, 1))
    unseen = {"held": target[count:], "expert": expert}
    return domains, {name: on_device(rows, domains.normaliser) for name, rows in unseen.items()}


def run_task(task: str, seed: int = 0, config: TargetModelConfig | None = None) -> dict[str, Any]:
    """The result of a task as JSON types."""
    domains, unseen = rows_of(task)
    config = config or TargetModelConfig(members=MEMBERS)
    model = fit_target_model(config, domains.source, domains.target, jax.random.key(seed))

    held, never = (parts_of(model, unseen[name]) for name in ("held", "expert"))
    result: dict[str, Any] = {"task": task, "seed": seed, "members": config.members, "forms": {}}
    for name, used in FORMS.items():
        weights = fit_error(*held, used)
        of_rows = {}
        for where, (parts, error) in (("held out", held), ("expert", never)):
            predicted = parts @ weights
            of_rows[where] = {
                "groups": groups(predicted, error),
                "rank_correlation": rank_correlation(predicted, error),
                "predicted": float(np.sqrt(predicted.mean())),
                "real": float(np.sqrt(error.mean())),
            }
        result["forms"][name] = {"weights": weights.tolist()} | of_rows
    return result | {"environment": environment()}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: rank correlation and size of predicted and real errors on expert rows, by task and form."""
    lines = [
        "| task | prediction | rank correlation | predicted error | real error | on held-out rows |",
        "|---" * 6 + "|",
    ]
    for result in results:
        for name, form in result["forms"].items():
            expert, held = form["expert"], form["held out"]
            lines.append(
                f"| {result['task']} | {name} | {expert['rank_correlation']:z.2f} | {expert['predicted']:.3f} | "
                f"{expert['real']:.3f} | {held['predicted']:.3f}, {held['real']:.3f} |"
            )
    return "\n".join(lines)


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Real against predicted errors of expert rows, predicted from the spread; on the dotted line they are equal."""
    figure = new_figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    ends = [np.inf, 0.0]
    for result, colour in zip(results, itertools.cycle(COLOURS), strict=False):
        predicted, real = result["forms"]["spread"]["expert"]["groups"]
        axes.loglog(predicted, real, "o-", color=colour, label=result["task"], markersize=4)
        ends = [min(ends[0], *predicted, *real) / 1.2, max(ends[1], *predicted, *real) * 1.2]
    axes.plot(ends, ends, color="#000000", linewidth=0.8, linestyle=":")
    axes.set(xlim=ends, ylim=ends, xlabel="predicted error of the model (spreads of the change of state)")
    axes.set_ylabel("real error on expert rows")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    save_png(figure, path)


def results_in(folder: Path, tasks: Sequence[str], run: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """All results in a folder, one file for each task; those of `tasks` that are missing are computed first."""
    for task in tasks:
        file = folder / f"{task}.json"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(file, run(task))
            print(f"{file}: done", flush=True)
    found = [read_json(file) for file in sorted(folder.glob("*.json"))]
    if not found:
        raise SystemExit(f"{folder}: holds no results; name the folder that --out wrote to")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--out", type=Path, default=Path("runs/reliability"))
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="draw and print the results of this folder")
    options = parser.parse_args()
    folder = options.table or options.out
    results = results_in(folder, () if options.table else options.tasks, run_task)
    draw(results, folder / "reliability.png")
    print(table(results))


if __name__ == "__main__":
    main()

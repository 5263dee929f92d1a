"""`tabb figure`: figures and tables of the paper, computed anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from tabb.commands.cell_figures import CellFigure, Cells, compute_plain, print_results, run_figure
from tabb.commands.options import parse
from tabb.errors import RunError, UsageError, meant
from tabb.experiments.oracle import RANKINGS, Oracle
from tabb.experiments.transfer import Transfer

FIGURES = {
    "oracle": "which ranking of source rows predicts the oracle Bellman error? (the paper's Figure 3)",
    "quality": "mean scores by quality of source and target data, from a benchmark's runs (Figure 2, right)",
    "intensity": "scores against the level of a shift, from a benchmark's runs (the paper's Figure 2, left)",
    "transfer": "do source rows that look like target rows lead to the same return there? (the paper's Figure 1)",
}


def run(arguments: Sequence[str]) -> int:
    names = list(FIGURES)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        raise UsageError(f"name the figure: {', '.join(names)}")
    if arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name}: {what}" for name, what in FIGURES.items())
        print(f"usage: tabb figure NAME [options]      tabb figure NAME --help lists its options\n\n{lines}")
        return 0
    if arguments[0] not in FIGURES:
        raise UsageError(f"unknown figure {arguments[0]!r}: {meant(arguments[0], names)}")
    if arguments[0] in ("quality", "intensity"):
        return _of_runs(arguments[0], list(arguments[1:]))
    return run_figure(_OF_CELLS[arguments[0]], list(arguments[1:]))


def compute_cell(figure: str, settings: dict[str, Any], folders: dict[str, str], task: str, seed: int) -> None:
    """Compute one cell of a figure by name, in a process of its own: plain values only."""
    compute_plain(_OF_CELLS[figure], settings, folders, task, seed)


# --- oracle ---


@dataclasses.dataclass(frozen=True)
class OracleOptions(Cells, Oracle):
    """What to compute, and where to keep it."""

    out: Path = Path("runs/figures/oracle")
    """folder of the results; what it holds is not computed again"""


def _check_oracle(settings: Oracle) -> None:
    unknown = [name for name in settings.rankings if name not in RANKINGS]
    if unknown or not settings.rankings:
        raise UsageError(f"--rankings {' '.join(unknown)}: use some of {', '.join(RANKINGS)}")


def _oracle_cell(
    folders: Mapping[str, Path], settings: Oracle, task: str, seed: int, source: Any, target: Any, report: Any
) -> None:
    from tabb.experiments.oracle import compute_result

    compute_result(settings, task, seed, source, target, folders["out"], report)


def _finish_oracle(results: Sequence[Mapping[str, Any]], options: OracleOptions, seeds: int) -> None:
    from tabb.experiments.oracle import draw_kept_error, table

    picture = options.out / "oracle.png"
    draw_kept_error(results, picture)
    heading = f"rank correlation with the oracle Bellman error, mean over {seeds} seed(s):"
    print_results(picture, options.out, heading, table(results))


_ORACLE = CellFigure("oracle", FIGURES["oracle"], OracleOptions, Oracle, _check_oracle, _oracle_cell, _finish_oracle)


# --- transfer ---


@dataclasses.dataclass(frozen=True)
class TransferOptions(Cells, Transfer):
    """What to compute, and where to keep it."""

    out: Path = Path("runs/figures/transfer")
    """folder of the results; what it holds is not computed again"""
    values: Path | None = None
    """folder of value functions, such as the `values` of `tabb figure oracle` with the same data and updates: V is read
    from there, or trained and kept there; `values` in the folder of the results if not given"""


def _check_transfer(settings: Transfer) -> None:
    if settings.horizon < 1:
        raise UsageError(f"--horizon {settings.horizon}: must be at least 1")
    if settings.rows < 10:
        raise UsageError(f"--rows {settings.rows}: must be at least 10, one for each tenth")


def _transfer_cell(
    folders: Mapping[str, Path], settings: Transfer, task: str, seed: int, source: Any, target: Any, report: Any
) -> None:
    from tabb.experiments.transfer import compute_result

    values = folders.get("values", folders["out"] / "values")
    compute_result(settings, task, seed, source, target, folders["out"], values, report)


def _finish_transfer(results: Sequence[Mapping[str, Any]], options: TransferOptions, seeds: int) -> None:
    from tabb.experiments.transfer import draw_transfer, tables

    picture = options.out / "transfer.png"
    draw_transfer(results, picture)
    print_results(picture, options.out, *tables(results, seeds))


_TRANSFER = CellFigure(
    "transfer", FIGURES["transfer"], TransferOptions, Transfer, _check_transfer, _transfer_cell, _finish_transfer
)

_OF_CELLS = {figure.name: figure for figure in (_ORACLE, _TRANSFER)}


# --- of finished runs ---


@dataclasses.dataclass(frozen=True)
class RunsOptions:
    """Which runs to draw."""

    runs: Annotated[Path, tyro.conf.Positional]
    """folder of `tabb benchmark`, or its report's with scores.csv alone; what is finished there is drawn"""
    methods: tuple[str, ...] = ()
    """methods to draw, as `tabb benchmark` took them; all that are there if none is named"""
    out: Path | None = None
    """folder of the pictures; that of the runs if not given"""


def _of_runs(name: str, arguments: list[str]) -> int:
    from tabb.experiments.benchmark_scores import methods_in, read_benchmark
    from tabb.experiments.intensity import draw_intensity, intensity_table, same_physics, scores_by_level
    from tabb.experiments.quality import draw_quality, quality_grids, quality_table

    options = parse(RunsOptions, arguments, f"tabb figure {name}", FIGURES[name])
    table = read_benchmark(options.runs)
    methods = methods_in(table, options.methods)
    out = options.out or options.runs
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot be made ({error.strerror}); choose another folder with --out") from None
    pictures = []
    if name == "quality":
        grids = quality_grids(table, methods)
        text = quality_table(grids)
        for grid in grids:
            pictures.append(out / f"quality-{grid.robot}.png")
            draw_quality(grid, pictures[-1])
    else:
        by_shift = scores_by_level(table, methods)
        text = intensity_table(by_shift)
        pictures.append(out / "intensity.png")
        draw_intensity(by_shift, pictures[-1])
        text += "".join(f"\n\n{note}" for note in same_physics(table))
    print(text)
    print("\n" + "\n".join(f"picture: {picture}" for picture in pictures))
    return 0

"""Which column of a table is what: named by the user, else by the names that logs have for it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tabb.data import checks
from tabb.data.column_names import EXTRAS, MATRICES, OPTIONAL, REQUIRED, Names, names_of
from tabb.errors import meant

STEMS = {
    "next_observations": (
        *("next_observations", "next_observation", "next_obs", "next_states", "next_state"),
        *("obs_next", "observations_next", "new_obs", "new_observations"),
    ),
    "observations": ("observations", "observation", "obs", "states", "state"),
    "actions": ("actions", "action", "acts", "act"),
    "rewards": ("rewards", "reward", "next.reward"),
}
"""Names of each kind of column, alone or in front of a number or another name: `obs_0`, `state.x`, `action[2]`."""
STEPS = ("frame_index", "step_index", "step_id", "steps", "step")
"""Names of the number of a row's step in its episode."""
_SEPARATED = re.compile(r"[._:/\[( -](.+?)[\])]?")


class Assigned(NamedTuple):
    """What the columns of a table are."""

    matrices: dict[str, list[str]]
    """Columns side by side, by what they are together."""
    vectors: dict[str, str]
    """Single columns: rewards, flags, numbers of episodes, and columns that say the same again."""
    steps: str | None
    """The column with the number of a row's step."""
    names: Names
    """As for files that have a key for each: what is read, compared, and not read."""

    @property
    def taken(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What is taken for what."""
        groups = {key: tuple(columns) for key, columns in self.matrices.items()}
        groups |= {key: (column,) for key, column in self.vectors.items() if key not in self.names.extras}
        return tuple((groups | ({"steps": (self.steps,)} if self.steps else {})).items())


def assign(
    columns: Sequence[str], is_numeric: Callable[[str], bool], stated: Mapping[str, tuple[str, ...]], name: str
) -> Assigned:
    """Decide what each of the `columns` of a table is; `name` is the table's in messages.

    Raises `DataError` (one line) where the user names columns that are not there, where there are two ways to read the
    table, and where observations, actions or rewards are not found.
    """
    chosen = {key: _matched(columns, patterns, key, name) for key, patterns in stated.items()}
    extras = chosen.pop("extras", [])
    taken = {column for group in chosen.values() for column in group}
    extras += [column for column in columns if column in EXTRAS and column not in (*taken, *extras)]
    free = [column for column in columns if column not in taken and column not in extras]
    groups = dict(chosen)
    for key in STEMS:
        if key in stated:
            continue
        found = _guessed(key, [column for column in free if is_numeric(column)], name)
        odd = _odd_ones(key, found, [column for column in free if not is_numeric(column)])
        if odd and (found or key in REQUIRED):
            why = f"not found: {checks.listed(odd)} " if not found else f"{checks.listed(odd)}, beside {found[0]}, "
            checks.fail(
                name,
                key,
                f"{why}{'holds' if len(odd) == 1 else 'hold'} something else than plain numbers (texts, units, decimal "
                f"commas, structures); mend the rows, or say which columns count (names.{key})",
            )
        if found:
            groups[key] = found
            free = [column for column in free if column not in found]
    if not {"observations", "next_observations"} & set(stated) and {"observations", "next_observations"} <= set(groups):
        groups["next_observations"] = _in_order_of(groups["next_observations"], groups["observations"])
    for key in REQUIRED:
        if key not in groups:
            checks.fail(
                name,
                key,
                f"not found; say which columns they are (names.{key}) of: {checks.listed(columns)}",
            )
    for key, group in groups.items():
        if key not in MATRICES and len(group) > 1:
            checks.fail(name, f"names.{key}", f"is {len(group)} columns ({', '.join(group[:3])}); name one")
    named = [key for key in groups if key in (*REQUIRED, *OPTIONAL)]
    rest = names_of([*named, *free], name)
    vectors = {key: groups[key][0] for key in groups if key not in (*MATRICES, "steps")}
    vectors |= {key: column for key, column in rest.read.items() if key not in groups}
    vectors |= {column: column for column in (*rest.compared, *extras)}
    steps = groups["steps"][0] if "steps" in groups else None
    unread = [column for column in rest.unread if column not in STEPS]
    if steps is None and "episodes" in vectors:
        steps = next((column for column in STEPS if column in free and is_numeric(column)), None)
    unread += [column for column in rest.unread if column in STEPS and column != steps]
    unread += [column for column in free if column in groups]
    read = {key: key for key in (*groups, *vectors) if key in (*REQUIRED, *OPTIONAL)}
    names = Names(read, rest.compared, tuple(sorted(unread)), False, tuple(extras))
    return Assigned({key: groups[key] for key in MATRICES if key in groups}, vectors, steps, names)


def _matched(columns: Sequence[str], patterns: Sequence[str], key: str, name: str) -> list[str]:
    """The columns that the user's patterns name, in the order of the patterns; those of one pattern in order."""
    found: list[str] = []
    for pattern in patterns:
        if pattern in columns:
            matching = [pattern]
        else:
            matching = _in_order([column for column in columns if fnmatch.fnmatchcase(column, pattern)])
        if not matching:
            checks.fail(name, f"names.{key}", f"{pattern}: no such column; {meant(pattern, columns)}")
        found += [column for column in matching if column not in found]
    return found


def _guessed(key: str, columns: Sequence[str], name: str) -> list[str]:
    """The columns that bear a usual name of `key`: one alone, else those that begin with it."""
    alone = [column for column in columns if column.lower() in STEMS[key]]
    begun: dict[str, list[str]] = {}
    plain: dict[str, bool] = {}
    if not alone and key != "rewards":
        for stem in STEMS[key]:
            found = [column for column in columns if _rest(column, stem) is not None]
            numbered = [column for column in found if (_rest(column, stem) or "").isdigit()]
            if found:
                begun[stem] = _in_order(numbered or found)
                plain[stem] = not numbered
    if not all(plain.values()):  # obs_0, obs_1 beside state_machine
        begun = {stem: group for stem, group in begun.items() if not plain[stem]}
    if len(alone) > 1 or len(begun) > 1:
        ways = alone or [f"{group[0]}, ..." for group in begun.values()]
        checks.fail(name, key, f"may be {' or '.join(ways)}; say which columns they are (names.{key})")
    return alone or next(iter(begun.values()), [])


def _odd_ones(key: str, found: Sequence[str], others: Sequence[str]) -> list[str]:
    """Columns `others`, which hold no numbers, that by their names belong to the columns `found` of `key`.

    Those that are numbered alike; where nothing was found, all that bear a usual name of `key`.
    """
    stems = {stem for stem in STEMS[key] for column in found if (_rest(column, stem) or "").isdigit()}
    if found:
        return [column for column in others if any((_rest(column, stem) or "").isdigit() for stem in stems)]
    alone = [column for column in others if column.lower() in STEMS[key]]
    if alone or key == "rewards":
        return alone
    return [column for column in others if any((_rest(column, stem) or "").isdigit() for stem in STEMS[key])]


def _in_order_of(columns: list[str], first: list[str]) -> list[str]:
    """`columns` (`next_obs_v`, `next_obs_x`) in the order of `first` (`obs_x`, `obs_v`), if they are named alike."""
    places = {_ending(column, "observations"): place for place, column in enumerate(first)}
    endings = [_ending(column, "next_observations") for column in columns]
    if None in places or set(endings) != set(places) or len(columns) != len(first) or len(places) != len(first):
        return columns
    return sorted(columns, key=lambda column: places[_ending(column, "next_observations")])


def _ending(column: str, key: str) -> str | None:
    """What follows a usual name of `key` in the name of a column."""
    return next((rest for stem in STEMS[key] if (rest := _rest(column, stem)) is not None), None)


def _rest(column: str, stem: str) -> str | None:
    """What follows `stem` and a separator in the name of a column; None if it does not begin so."""
    match = _SEPARATED.fullmatch(column[len(stem) :]) if column.lower().startswith(stem) else None
    return None if match is None else match[1]


def _in_order(columns: list[str]) -> list[str]:
    """Columns by the numbers at the end of their names, where all have one; else in the order of the table."""
    ends = [re.search(r"(\d+)\D?$", column) for column in columns]
    if all(ends):
        return sorted(columns, key=lambda column: int(ends[columns.index(column)][1]))  # type: ignore[index]
    return columns

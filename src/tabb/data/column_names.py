"""Names of columns: those that tabb reads, their names in other libraries, and names whose meaning is not certain."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tabb.data import checks

REQUIRED = ("observations", "actions", "rewards")
OPTIONAL = ("next_observations", "terminals", "timeouts", "episodes")
GOAL = "infos/goal"
"""D4RL's AntMaze files have it; what it holds is not needed."""
MATRICES = ("observations", "actions", "next_observations")
"""columns with several entries a row"""

EXTRAS = ("cost", "costs", "weight", "weights")
"""Names of further columns that are kept without being asked for."""

SAME = {
    **dict.fromkeys(("terminal", "terminated", "terminateds", "terminations", "termination"), "terminals"),
    **dict.fromkeys(("timeout", "truncated", "truncateds", "truncations", "truncation"), "timeouts"),
    **dict.fromkeys(("next_observation", "next_obs", "next_states", "next_state", "new_obs"), "next_observations"),
    **dict.fromkeys(("observations_next", "observation_next", "obs_next", "new_observations"), "next_observations"),
    **dict.fromkeys(("nextobs", "obs2", "observations2", "obs_tp1", "observations_tp1"), "next_observations"),
    **dict.fromkeys(("episode", "episode_id", "episode_ids", "episode_index", "traj_id", "trajectory_id"), "episodes"),
    **dict.fromkeys(("episode_number", "episode_numbers", "episode_num", "episode_idx", "ep_id", "ep_ids"), "episodes"),
    **dict.fromkeys(("trajectory", "traj_ids", "trajectory_ids", "traj_index", "trajectory_index"), "episodes"),
    **dict.fromkeys(("is_first", "episode_start", "episode_starts"), "episodes"),
}
"""column by a name that means the same in another library"""
STARTS = ("is_first", "episode_start", "episode_starts")
"""names of episodes that mark first rows"""

ENDS = ("dones", "done", "is_done", "dones_float", "ends", "end", "is_end", "episode_end", "episode_over", "last")
"""1 where an episode is over, whatever the reason"""
GOES_ON = (
    *("masks", "mask", "not_dones", "not_done", "notdone", "continues"),
    *("nonterminal", "nonterminals", "non_terminal", "non_terminals", "not_terminal", "not_terminals"),
)
"""1 where an episode goes on"""
LISTS = (
    *("episode_ends", "trajectory_ends", "traj_lengths", "traj_lens", "trajectory_lengths"),
    *("episode_lengths", "episode_lens", "ep_lens", "path_lengths"),
)
"""a number for each episode, not for each row"""
UNCERTAIN = {
    **dict.fromkeys(
        ENDS,
        "does not say why an episode ended; name it terminals if the task itself ended there, timeouts if only time "
        "ran out, or give both",
    ),
    **dict.fromkeys(
        GOES_ON,
        "is 1 where an episode goes on; give terminals = 1 - {key} if it is 0 only where the task itself ended, else "
        "terminals and timeouts",
    ),
    **dict.fromkeys(
        ("discount", "discounts"),
        "may say where the task ended; give terminals = ({key} == 0) if it is 0 only there, and leave {key} out",
    ),
    **dict.fromkeys(
        ("is_last", "is_terminal"),
        "marks a row that holds the last observation and no step (RLDS); drop these rows, mark the rows before them in "
        "terminals where the task ended, else in timeouts, and leave {key} out",
    ),
    **dict.fromkeys(
        LISTS,
        "has a number for each episode rather than for each row; give episodes, the number of each row's episode, and "
        "leave {key} out",
    ),
    **dict.fromkeys(
        ("reset", "resets"),
        "may mark first rows of episodes or last ones; name it is_first if first ones, else timeouts, or terminals if "
        "the task itself ended there",
    ),
    "absorbing": "may say where the task ended; name it terminals if it does, else leave it out",
    "step_type": "numbers first, middle and last rows (dm_env), and a last row holds the last observation and no step; "
    "drop these rows, mark the rows before them in terminals where the task ended, else in timeouts, and leave {key} "
    "out",
}
"""why a name cannot be read as it is, and what to do"""
COMPARED = (*ENDS, *GOES_ON)
"""uncertain names that can be held against terminals and timeouts"""
QUIET = ("infos", "metadata", "action_low", "action_high", "tabb")
"""groups of D4RL's files that hold nothing of the log itself, the bounds of the action space, and tabb's own mark"""


class Names(NamedTuple):
    """What the keys of a file are."""

    read: dict[str, str]
    """Key by the name of the column that it is read as: one of `REQUIRED` and `OPTIONAL`."""
    compared: tuple[str, ...]
    """Keys that say again what other columns say: read, and held against them."""
    unread: tuple[str, ...]
    """Keys that mean nothing to tabb."""
    maze: bool
    """A key says that the log is of AntMaze."""
    extras: tuple[str, ...] = ()
    """Keys that are kept beside the log."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys to read."""
        return (*self.read.values(), *self.compared, *self.extras)

    def is_matrix(self, key: str) -> bool:
        """Whether `key` is read as a column with several entries a row."""
        return self.column(key) in MATRICES

    def column(self, key: str) -> str:
        """What `key` is read as."""
        return next((column for column, read in self.read.items() if read == key), SAME.get(key, key))


def names_of(keys: Iterable[str], name: str, stated: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> Names:
    """Decide which of the keys of a file (called `name` in messages) are read, and as what.

    `stated` are keys that the user names, by what they are. Raises `DataError` (one line) for a key that means ends of
    episodes but not which, and for stated keys that are not there.
    """
    keys = sorted(set(keys))
    kept = _stated_extras(stated.get("extras", ()), keys, name)
    chosen = {
        column: _stated_key(patterns, keys, name, column) for column, patterns in stated.items() if column != "extras"
    }
    extras = [key for key in keys if (key in EXTRAS or key in kept) and key not in chosen.values()]
    keys = [key for key in keys if key not in chosen.values() and key not in extras]
    read = {key: key for key in (*REQUIRED, *OPTIONAL) if key in keys and key not in chosen} | chosen
    compared, unread = [], []
    for key in keys:
        column = SAME.get(key)
        if column is not None and column not in read:
            read[column] = key
        elif column is not None or (key in COMPARED and "terminals" in {*keys, *map(SAME.get, keys)}):
            compared.append(key)
        elif key in UNCERTAIN and not _ends_are_stated(key, keys):
            checks.fail(name, key, UNCERTAIN[key].format(key=key))
        elif key not in read.values() and key.partition("/")[0] not in QUIET:
            unread.append(key)
    return Names(read, tuple(compared), tuple(unread), GOAL in keys, tuple(extras))


def unread_doubts(names: Names) -> Iterator[str]:
    """Doubts, each "what: remedy", about unread keys that by their names may say what nothing in the file says."""
    known = {*names.read, *(SAME.get(key, key) for key in names.compared)}
    cuts_are_known = bool(known & {"timeouts", "episodes"})
    for means, unknown, fix in (
        (_MEANS_ENDS, not cuts_are_known, "name it terminals, timeouts or episodes if it says so"),
        (_MEANS_TERMINAL, cuts_are_known and "terminals" not in known, "name it terminals if it says so"),
        (_MEANS_NEXT, "next_observations" not in known, "name it next_observations if it says so"),
        (_MEANS_PADDING, True, "leave out the rows that hold no step, if it says which these are"),
    ):
        keys = [key for key in names.unread if means.search(key.rpartition("/")[2].lower())]
        if unknown and keys:
            what = _WHAT.get(means)
            says = f"and nothing states {what}" if what else "and may say which rows hold steps"
            yield f"`{'`, `'.join(keys[:5])}` was not read, {says}: {fix}"


_MEANS_ENDS = re.compile(
    "done|termin|trunc|time_?out|episode|traj|rollout|reset|first|last|fail|fall|crash|absorb|bootstrap|(^|_)ends?($|_)"
    "|(run|demo|sequence)_?(id|index|number)"
)
_MEANS_TERMINAL = re.compile("done|termin|fail|fall|crash|absorb")
_MEANS_NEXT = re.compile("^(?!.*(action|reward|goal))(.*next|.*tp1|.*prime|(obs|observations?)_$)")
_MEANS_PADDING = re.compile("valid|(^|_)pad($|_)|padding")
_WHAT = {
    _MEANS_ENDS: "where episodes end",
    _MEANS_TERMINAL: "where the task itself ended",
    _MEANS_NEXT: "what was seen after each step",
}


def _stated_extras(patterns: tuple[str, ...], keys: list[str], name: str) -> set[str]:
    """The keys that the user wants kept beside the log."""
    found = set()
    for pattern in patterns:
        matching = fnmatch.filter(keys, pattern)
        if not matching:
            checks.fail(name, "names.extras", f"{pattern}: no such key; there are {checks.listed(keys)}")
        found |= set(matching)
    return found


def _stated_key(patterns: tuple[str, ...], keys: list[str], name: str, column: str) -> str:
    """The one key that the user names for a column."""
    found = [key for key in keys if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)]
    if len(found) == 1 and column in (*REQUIRED, *OPTIONAL):
        return found[0]
    problem = (
        f"is {len(found)} keys ({' '.join(patterns)})" if column in (*REQUIRED, *OPTIONAL) else "is of no use here"
    )
    raise checks.refusal(name, f"names.{column}", f"{problem}; name one key of {checks.listed(keys)}")


def _ends_are_stated(key: str, keys: list[str]) -> bool:
    """Whether other keys say all that `key` can say of ends."""
    columns = {SAME.get(other, other) for other in keys}
    if key in ("discount", "discounts"):
        return "terminals" in columns
    if key == "absorbing":
        return "terminals" in columns
    return bool(columns & {"timeouts", "episodes"}) and (key in LISTS or "terminals" in columns)


def resolve(columns: dict[str, np.ndarray], names: Names, name: str) -> list[str]:
    """Hold columns that say the same against each other, keep one of each; `columns` has the keys of `names`.

    `columns` is changed to hold the columns under tabb's names; what was read under another name, or from what columns
    say together, is returned as notes. Raises `DataError` where columns contradict each other.
    """
    notes = []
    said_again = {key: columns.pop(key) for key in names.compared}
    for column, key in names.read.items():
        if key != column:
            value = columns.pop(key)
            columns[column] = starts_as_numbers(value, name, key) if key in STARTS else value
            notes.append(f"`{key}` is read as {column}")
    for key, value in said_again.items():
        if key in COMPARED:
            notes += _compare_ends(columns, key, checks.flag(value, name, key), name)
            continue
        column = SAME[key]
        if key in STARTS:
            value = starts_as_numbers(value, name, key)
        if not _agree(columns[column], value, column):
            checks.fail(
                name, key, f"says otherwise than {names.read[column]}, which means the same; keep one of the two"
            )
    return notes


def starts_as_numbers(starts: np.ndarray, name: str, key: str) -> np.ndarray:
    """Number of each row's episode from marks of first rows."""
    return np.cumsum(checks.flag(starts, name, key)).astype(np.int64)


def _agree(first: np.ndarray, second: np.ndarray, column: str) -> bool:
    first, second = np.asarray(first), np.asarray(second)
    if column == "next_observations":
        return first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    first, second = first.reshape(-1), second.reshape(-1)
    if len(first) != len(second):
        return False
    if column == "episodes":
        there = checks.of_an_episode(first)  # NaN differs from itself, and -1 says the same
        if not np.array_equal(there, checks.of_an_episode(second)):
            return False
        first, second = first[there], second[there]
        return bool(np.array_equal(first[1:] != first[:-1], second[1:] != second[:-1]))
    return bool((first == second).all())


def _compare_ends(columns: dict[str, np.ndarray], key: str, flag: np.ndarray, name: str) -> list[str]:
    """Hold a column of ends, or of going on, against terminals and timeouts; without timeouts it states them."""
    over = ~flag if key in GOES_ON else flag
    terminals = checks.flag(columns["terminals"], name, "terminals")
    checks.same_length({"terminals": terminals, key: over}, name)
    timeouts = columns.get("timeouts")
    if (over == terminals).all():
        return []
    if timeouts is not None:
        timeouts = checks.flag(timeouts, name, "timeouts")
        checks.same_length({key: over, "timeouts": timeouts}, name)
        if (over == (terminals | timeouts)).all():
            return []
    elif not (terminals & ~over).any():
        if "episodes" in columns:
            return []
        columns["timeouts"] = over & ~terminals
        return [f"rows that `{key}` ends and terminals do not are read as timeouts"]
    row = int(np.flatnonzero(over != (terminals if timeouts is None else terminals | timeouts))[0])
    raise checks.refusal(
        name, key, f"says otherwise than terminals and timeouts (row {row}); keep the columns that are right"
    )

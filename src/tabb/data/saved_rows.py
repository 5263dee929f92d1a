"""Rows that tabb saved as they are, column by column of `Transitions`: they are checked, and not read anew."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tabb.data import checks
from tabb.data.reading import NOTHING_STATED, Reading, bounds_of
from tabb.data.report import STEPS, Loaded, Report, log_return
from tabb.transitions import COLUMNS, Transitions

EXTRA = "extras/"
"""what keys of extras of saved transitions begin with"""
CUT = "cut"
"""key of the numbers of the episodes that were cut, in a file of the steps that a run took"""


def saved_rows(
    columns: dict[str, np.ndarray],
    own: dict[str, Any],
    name: str,
    layout: str,
    reading: Reading,
    cut: Collection[int] | None = None,
) -> Loaded:
    """The rows that tabb saved as they are, checked; ends of episodes are where the number changes.

    `cut` are the numbers of the episodes that were cut, where the file knows them.
    """
    action = checks.matrix(columns["action"], name, "action")
    bounds = bounds_of(NOTHING_STATED, own, action.shape[1], name)
    stated = bounds_of(reading, own, action.shape[1], name)
    if stated != bounds:
        checks.fail(
            name,
            "action",
            f"was scaled by the bounds {bounds or '[-1, 1]'} before it was saved, not by {stated or '[-1, 1]'}; leave "
            "the bounds of the action space out",
        )
    extras = {
        key.removeprefix(EXTRA): checks.real(column, name, key)
        for key, column in columns.items()
        if key.startswith(EXTRA)
    }
    transitions = Transitions(
        observation=checks.matrix(columns["observation"], name, "observation"),
        action=checks.unit_actions(action, None, name, "action"),
        reward=checks.real(columns["reward"], name, "reward"),
        next_observation=checks.matrix(columns["next_observation"], name, "next_observation"),
        terminal=checks.flag(columns["terminal"], name, "terminal").astype(np.float32),
        episode=_numbers(columns["episode"], name),
        action_bounds=bounds,
        extras=extras,
    )
    checks.same_length({key: np.asarray(getattr(transitions, key)) for key in COLUMNS} | extras, name)
    if transitions.next_observation.shape != transitions.observation.shape:
        checks.fail(name, "next_observation", "has another size than observation; write the file again")
    number = np.asarray(transitions.episode)
    ends = np.flatnonzero(np.append(number[1:] != number[:-1], True))
    returns = np.add.reduceat(np.asarray(transitions.reward, np.float64), np.append(0, ends[:-1] + 1))
    ended = np.asarray(transitions.terminal)[ends] == 1
    return Loaded(
        transitions,
        Report(
            name=name,
            layout=layout if cut is None else STEPS,
            rows=len(transitions),
            kept=len(transitions),
            dropped={},
            dropped_rows={},
            wrong_next=(),
            episode_ends=tuple(ends.tolist()),
            returns=tuple(returns.tolist()),
            unfinished=tuple(np.flatnonzero(np.isin(number[ends], list(cut or ()))).tolist()),
            terminals=int(ended.sum()),
            truncations=int((~ended).sum()),
            notes=("rows that were dropped when these transitions were first read are in no return",),
            kept_rows=np.arange(len(transitions)),
            action_bounds=bounds,
            extras=tuple(extras),
            mean_return=log_return(transitions.reward, transitions.episode, cut),
            cut=None if cut is None else tuple(sorted(cut)),
        ),
    )


def _numbers(value: np.ndarray, name: str) -> np.ndarray:
    """Episode numbers as `save_npz` writes them: int32."""
    array = checks.episode_numbers(value, name, "episode")
    bad = np.flatnonzero(~np.isfinite(array) | (array < -(2**31)) | (array >= 2**31))
    if bad.size:
        checks.fail(name, "episode", f"row {int(bad[0])} is {array[bad[0]]}, no 32-bit number; write the file again")
    return array.astype(np.int32)

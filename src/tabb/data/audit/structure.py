"""Doubts about the structure of a log: flags that mean something else, sit a row off or are missing, and stored next
observations that are something else.

What is stated is believed; where the steps of the file disagree, the rows are counted and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tabb.data.boundaries import Boundaries, deviation_of, resets
from tabb.data.checks import pieces
from tabb.data.steps import SAMPLE, Surprise, are_shuffled, distances, spread_rows

MOST = 0.5
"""Share of rows that are flagged or dropped above which the flags mean something else."""
FEW_ENDS = 5
"""Fewer ends of a kind than this say nothing of where they sit."""
JUMP = 30.0
"""Surprise (`tabb.data.steps`) from which a step is a jump into another episode; between episodes of public data it is
38 at least, and mostly hundreds."""
FILLED = 0.01
"""Share of rows that hold no step of their own from which they are doubted."""
TURNS = 64
"""Rows on that the log is looked for in; half of them environments that are logged in turn."""
TURN = 0.3
"""How much nearer the same environment's next row is than those of the others."""
OFF = 8.0
"""A flag sits a row off if the step beside it is a jump and this many times as surprising as its own."""
FAR_JUMP = 1e6
"""Surprise from which a step is a jump wherever it leads, if it is as long as those at stated cuts. Inside episodes of
public data it stays below 2e4, but in a simulator without noise a bump into a wall is as surprising as a reset."""
SHORTEST = 0.05
"""quantile of the lengths of steps at stated cuts that a jump must reach"""

NO_ORDER = (
    "rows seem to stand in no order (a row says nothing of the next one), yet next_observations are taken from the "
    "next row: store rows in the order of the log, or next_observations"
)


def has_no_order(doubts: Iterable[str]) -> bool:
    """Whether these doubts of a report say so, of its file or of one of several."""
    return any(doubt.startswith(NO_ORDER.partition(": ")[0]) for doubt in doubts)


RELATIONS = {
    "own row": "equal the row's own observation: if the buffer was written in place, leave next_observations out and "
    "the next row is taken",
    "row after next": "are the observation two rows on: store what was seen right after the action; if each row stands "
    "twice, store it once; if two environments are logged in turn, store one's rows after the other's",
    "row before": "are the observation of the row before: store what was seen after the action, or turn the rows round "
    "if the last step stands first",
    "change": "are changes, s' - s: add the observations",
    "other units": "are the next rows in other units: scale both alike",
    "interleaved": "are the observation some rows on, as where several environments are logged in turn: store one "
    "environment's rows after the other's",
    "no order": "follow from their own rows, but are not the next rows: if the rows are shuffled, store them in the "
    "order of the log, or state episodes; each row counts as an episode now",
    "nothing": "have nothing to do with their rows or with the next ones: check that all columns are in the same order",
}
"""what stored next observations are that are not the next rows, and the remedy"""


def structure_doubts(
    columns: dict[str, np.ndarray], outcome: Boundaries, dropped: np.ndarray, file_rows: np.ndarray
) -> Iterator[str]:
    """Doubts, each "what: remedy", about checked columns of N rows and what the rule made of them.

    `dropped` [N] are rows that are not kept, `file_rows` [N] the numbers that messages give the rows.
    """
    rows = len(columns["observations"])
    timeouts, episodes = columns.get("timeouts"), columns.get("episodes")
    flags: dict[str, np.ndarray] = {key: columns[key] for key in ("terminals", "timeouts") if key in columns}
    inverted = [key for key, flag in flags.items() if rows > 2 and flag.mean() > MOST]
    for key in inverted:
        marked = int(np.sum(flags[key]))
        yield (
            f"{marked:,} of {rows:,} rows are marked in `{key}`: mark only the rows that end an episode; if the column "
            f"says that an episode goes on (`masks`), give 1 - {key}"
        )
    if not inverted and rows > 2 and dropped.mean() > MOST:
        yield f"{int(dropped.sum()):,} of {rows:,} rows are dropped: store the next observation of each step"
    compared = outcome.next_rows
    yield from _rows_without_steps(columns, file_rows)
    for column, jumps in wrapped(columns["observations"], outcome.end).items():
        yield (
            f"column {column} of observations jumps from one end of its range to the other {len(jumps):,} times, as an "
            "angle that wraps round: give its sine and cosine, or unwrap it"
        )
    if not inverted and compared is not None and compared.relation in RELATIONS:
        what = RELATIONS[compared.relation]
        if compared.relation == "no order" and not outcome.end.mean() > MOST:
            what = what.removesuffix("; each row counts as an episode now")
        yield f"next_observations {what}"
    turns = environments_in_turn(columns["observations"], outcome.end) if compared is None else None
    if turns:
        yield (
            f"each row goes on {turns} rows later, as where {turns} environments are logged in turn: store one "
            "environment's rows after the other's, or next_observations"
        )
        return
    if compared is None and not inverted and are_shuffled(columns["observations"], outcome.end):
        yield NO_ORDER
        return
    states_cuts = episodes is not None or (timeouts is not None and bool(timeouts.any()))
    if inverted or (not outcome.end[:-1].any() and not states_cuts):
        return
    yield from _disagreeing(columns, flags, outcome, states_cuts, file_rows)


def gap_doubts(
    gaps: np.ndarray, absent: np.ndarray, episodes: np.ndarray | None, file_rows: np.ndarray
) -> Iterator[str]:
    """Doubts about stated episodes that have gaps: rows of none in between (after rows `gaps`), and unknown next rows.

    `absent` marks rows whose next observation is NaN.
    """
    if gaps.size:
        yield (
            f"after {counted(file_rows[gaps])} come rows of no episode, and then the same episode goes on (cut there, "
            "as no step leads across): log the episode whole, or give what comes behind another number"
        )
    if episodes is None:
        return
    unknown = np.flatnonzero(absent[:-1] & (episodes[1:] == episodes[:-1]))
    if unknown.size:
        yield (
            f"next_observations is NaN in {counted(file_rows[unknown])} inside of episodes (cut there): store what was "
            "seen, or leave next_observations out and the next row is taken"
        )


def _disagreeing(
    columns: dict[str, np.ndarray],
    flags: dict[str, np.ndarray],
    outcome: Boundaries,
    states_cuts: bool,
    file_rows: np.ndarray,
) -> Iterator[str]:
    """Doubts about stated ends that the steps of the file do not bear out, and about jumps where none is stated."""
    observations, episodes = columns["observations"], columns.get("episodes")
    apart = np.flatnonzero(outcome.apart)
    following = outcome.next_rows is not None and outcome.next_rows.follow
    if states_cuts and following and apart.size:
        stated = "`episodes` does not change there" if episodes is not None else "no flag marks them"
        taken = "taken as one episode" if episodes is not None else "taken as ends of episodes"
        yield (
            f"after {counted(file_rows[apart])} the next row is not the stored next observation, yet {stated} "
            f"({taken}): mark where the log was cut, in timeouts or episodes"
        )
    surprise = Surprise(observations, columns["actions"], outcome.end)
    if not surprise.enough:
        return
    off = False
    marks = dict(flags)
    if episodes is not None:
        marks["episodes"] = np.append(episodes[1:] != episodes[:-1], False)
    resets_only = _reset_rows(columns, outcome, marks, surprise)
    if resets_only.size:
        off = True
        yield (
            f"{counted(file_rows[resets_only])} stand after an end of an episode and only lead to the next one's first "
            "observation, as Gymnasium's vector environments log them (next-step autoreset): leave them out"
        )
    for key, flag in marks.items():
        direction = 0 if off and resets_only.size else rows_off(surprise, np.flatnonzero(flag), len(observations))
        if direction:
            off = True
            where = "a row late (on first rows of episodes)" if direction == -1 else "a row early"
            yield f"`{key}` sits {where}, by where the steps jump: mark the last row of each episode"
    if off or not states_cuts:
        return
    cuts = outcome.end & ~columns["terminals"]
    unstated = missed_jumps(observations, outcome.end, cuts, surprise)
    unstated = unstated[~outcome.apart[unstated]]
    unstated = np.setdiff1d(unstated, _stored_steps(columns, outcome.end))
    for rows in wrapped(observations, outcome.end).values():
        unstated = np.setdiff1d(unstated, rows)
    alone = unstated[np.isin(unstated + 1, unstated)] + 1
    if alone.size:
        unstated = np.setdiff1d(unstated, [alone - 1, alone])
        yield (
            f"the steps to and from {counted(file_rows[alone])} both jump, as where a number is wrong: leave out the "
            "episodes of such rows, or log them again"
        )
    if unstated.size:
        yield (
            f"after {counted(file_rows[unstated])} the step jumps as if an episode ended, yet nothing marks it (taken "
            "as one episode): mark all ends in timeouts or episodes, or give neither and they are looked for"
        )


def _rows_without_steps(columns: dict[str, np.ndarray], file_rows: np.ndarray) -> Iterator[str]:
    """Doubts about rows that fill a table up: all zeros, or the row before once more."""
    observations, actions, rewards = (columns[key] for key in ("observations", "actions", "rewards"))
    zero = rewards == 0
    for piece in pieces(len(zero)):
        zero[piece] &= ~observations[piece].any(axis=1) & ~actions[piece].any(axis=1)
    if zero.mean() > FILLED:
        yield (
            f"{counted(file_rows[np.flatnonzero(zero)])} hold nothing but zeros: leave them out if they only fill "
            "episodes up to one length"
        )
    again = np.zeros(len(observations), bool)
    again[1:] = (rewards[1:] == rewards[:-1]) & ~zero[1:]
    for piece in pieces(len(again) - 1):
        after = slice(piece.start + 1, piece.stop + 1)
        for table in (observations, actions):
            again[after] &= (table[after] == table[piece]).all(axis=1)
    if again.mean() > FILLED:
        yield (
            f"{counted(file_rows[np.flatnonzero(again)])} are the row before once more: leave them out if they were "
            "logged twice or fill episodes up to one length"
        )


def environments_in_turn(observations: np.ndarray, end: np.ndarray) -> int | None:
    """How many rows on the log goes on, if that is not the next row: several environments were logged in turn.

    The row so many rows on must be far nearer, in the median, than the next one and than any row in between.
    """
    rows = len(observations)
    spread = deviation_of(observations)
    unit = np.where(spread > 0, spread, np.inf)
    few = spread_rows(np.arange(rows - TURNS), 1_000) if rows > 20 * TURNS else np.empty(0, int)
    if not few.size:
        return None
    apart = [float(np.median(distances(observations[few + k], observations[few], unit))) for k in range(1, TURNS + 1)]
    for turns in range(2, TURNS // 2 + 1):
        nearest = apart[turns - 1]
        # Two rounds on it is nearer too than what lies between: a gait's period is not, for its next row is near.
        if nearest < TURN * min(apart[: turns - 1]) and apart[2 * turns - 1] < min(apart[turns : 2 * turns - 1]):
            return turns
    return None


def _reset_rows(
    columns: dict[str, np.ndarray], outcome: Boundaries, marks: dict[str, np.ndarray], surprise: Surprise
) -> np.ndarray:
    """Rows after marked ends that hold no step: their reward is 0, and what follows them is another episode.

    Nearly every end must have one, and hardly another row the reward 0.
    """
    rewards, rows = columns["rewards"], len(outcome.end)
    ends = np.flatnonzero(np.any(list(marks.values()), axis=0))
    after = ends[ends < rows - 2] + 1
    if len(after) < FEW_ENDS or (rewards[after] == 0).mean() < 0.9:
        return np.empty(0, int)
    others = np.setdiff1d(np.arange(rows), after)
    jumps = np.median(surprise(spread_rows(after, SAMPLE)))
    own = np.median(surprise(spread_rows(ends[(ends > 0) & (ends < rows - 2)], SAMPLE)))
    none = np.empty(0, int)
    return after if jumps > JUMP and jumps > OFF * own and (rewards[others] == 0).mean() < 0.1 else none


def wrapped(observations: np.ndarray, end: np.ndarray) -> dict[int, np.ndarray]:
    """Columns that jump from one end of their range to the other inside episodes, and the rows after which they do.

    Their other steps are far smaller; a switch, which has few values, is none of them.
    """
    inside = ~end[:-1]
    most, found = 0.2 * inside.sum(), {}
    for column in range(observations.shape[1]):
        values = observations[:, column]
        size = float(values.max()) - float(values.min())
        if not size:
            continue
        jumps: list[np.ndarray] = []
        smallest_jump, largest_step = np.inf, 0.0
        for piece in pieces(len(inside)):  # of all rows at once, float64 would take much memory
            rows = piece.start + np.flatnonzero(inside[piece])
            step = np.abs(values[rows + 1].astype(np.float64) - values[rows]) / size
            far = step > 0.5
            jumps.append(rows[far])
            smallest_jump = step[far].min(initial=smallest_jump)
            largest_step = step[~far].max(initial=largest_step)
        count = sum(map(len, jumps))
        clear = FEW_ENDS <= count < most and smallest_jump > 1.5 * largest_step
        if clear and len(np.unique(values[:2_000])) > 20:
            found[column] = np.concatenate(jumps)
    return found


def rows_off(surprise: Surprise, ends: np.ndarray, rows: int) -> int:
    """-1 or 1 where the step a row before or after the marked `ends` jumps while that at the ends does not; else 0."""
    ends = ends[(ends > 0) & (ends < rows - 2)]
    if len(ends) < FEW_ENDS:
        return 0
    ends = spread_rows(ends, SAMPLE)
    own, before, after = (float(np.median(surprise(ends + offset))) for offset in (0, -1, 1))
    beside = max(before, after)
    if beside < JUMP or beside < OFF * own:
        return 0
    return -1 if before >= after else 1


def _stored_steps(columns: dict[str, np.ndarray], end: np.ndarray) -> np.ndarray:
    """Rows whose stored next observation is the next row, in a file where it is not at known ends: no end is there."""
    following = columns.get("next_observations")
    if following is None:
        return np.empty(0, int)
    observations = columns["observations"]
    joined = np.zeros(len(end), bool)
    for piece in pieces(len(end) - 1):
        joined[piece] = (following[piece] == observations[piece.start + 1 : piece.stop + 1]).all(axis=1)
    known = np.flatnonzero(end[:-1])
    return np.flatnonzero(joined) if known.size and joined[known].mean() < 0.5 else np.empty(0, int)


def missed_jumps(observations: np.ndarray, end: np.ndarray, cuts: np.ndarray, surprise: Surprise) -> np.ndarray:
    """Rows after which the file jumps although no end is stated: onto a first state, or farther than any step does.

    `cuts` are those of the stated ends at which the task did not end.
    """
    jumps = resets(observations, end)
    inner = np.flatnonzero(~end[:-1])
    stated = spread_rows(np.flatnonzero(cuts[:-1]), SAMPLE)
    least = max(1.0, float(np.quantile(surprise.in_steps(stated), SHORTEST))) if len(stated) else 1.0
    for begin in range(0, len(inner), SAMPLE):
        rows = inner[begin : begin + SAMPLE]
        jumps[rows[(surprise(rows) > FAR_JUMP) & (surprise.in_steps(rows) > least)]] = True
    return np.flatnonzero(jumps)


def counted(rows: np.ndarray) -> str:
    """`3 rows (row 4, 9, 12)`, at most five of them listed."""
    listed = ", ".join(map(str, rows[:5].tolist())) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows):,} row{'' if len(rows) == 1 else 's'} (row {listed})"

"""Films of policies in a task: `watch`, which the command `tabb watch` calls."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabb.environments.engine import ENGINES, Engine
from tabb.environments.own_environment import check_task_takes
from tabb.environments.tasks import ALL_TASKS, Task, get_task
from tabb.errors import UsageError
from tabb.evaluation.scores import EVALUATION_SEED
from tabb.policy import Policy
from tabb.training.folder import env_of_run

MOST = 8
"""Most policies in one film."""


@dataclasses.dataclass(frozen=True)
class Film:
    """The film that was written, and what it shows."""

    path: Path
    """The file."""
    task: str
    """The task's name."""
    labels: tuple[str, ...]
    """The name of each policy in the film."""
    episodes: tuple[int, ...]
    """Indices of the episodes in the evaluation, in the order of the film."""
    returns: tuple[tuple[float, ...], ...]
    """Undiscounted return of each episode, [policy][episode], as in `tabb.evaluate`."""
    lengths: tuple[tuple[int, ...], ...]
    """Steps of each episode, [policy][episode]."""
    terminal: tuple[tuple[bool, ...], ...]
    """Whether the task ended the episode, [policy][episode]; else the time limit cut it."""


def watch(
    policies: str | Path | Policy | Sequence[str | Path | Policy],
    task: str | Task | None = None,
    out: str | Path | None = None,
    *,
    episodes: int = 10,
    film: Sequence[int] = (0,),
    seed: int = EVALUATION_SEED,
    engine: Engine | None = None,
    size: tuple[int, int] = (640, 480),
    fps: int = 25,
    speed: float = 1.0,
    steps: int | None = None,
) -> Film:
    """Film policies in a task without a display, several side by side and in step.

    All episodes of `tabb.evaluate(policy, task, episodes, seed, engine=engine)` are run, so that the filmed ones have
    its returns bit for bit.

    Args:
        policies: a policy, its file or its run folder, or several of them.
        task: a task of the catalogue; the default is the task that the policies were trained for.
        out: a .mp4 or .gif file. The default is watch.mp4 in the first policy's folder, or watch.gif without PyAV.
        episodes: episodes of the evaluation.
        film: indices of the episodes that are shown, one after another.
        seed: first reset seed; episode k starts with seed + k.
        engine: `legacy` or `native`; the default is the engine of the policies' training.
        size: width and height in pixels of one policy's panel.
        fps: pictures per second of film. GIF files round the time of a picture to 1/100 s, so 25 and 50 are exact.
        speed: simulated seconds per second of film.
        steps: most steps of an episode that are shown. The episode itself is not cut.

    Raises:
        UsageError: the task is unknown, the policies do not fit it or are of different robots, a number is out of
            range, no OpenGL backend works, the suffix is unknown, or an extra is missing.
        RunError: a policy cannot be read, or the film cannot be written.
    """
    given = [policies] if isinstance(policies, (str, Path, Policy)) else list(policies)
    if not 1 <= len(given) <= MOST:
        raise UsageError(f"{len(given)} policies: a film shows 1 to {MOST}")
    loaded = [one if isinstance(one, Policy) else Policy.load(one) for one in given]
    filmed = _task_of(loaded, _task_of_runs(given) if task is None else task)
    film = tuple(film)
    engines = {policy.about.get("engine") or "legacy" for policy in loaded}
    if engine is None and len(engines) > 1:
        raise UsageError("the policies were trained with different engines; choose --engine legacy or --engine native")
    trained_in: Engine = "native" if engines == {"native"} else "legacy"
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}: it must be at least 1")
    if not film or len(set(film)) < len(film) or not all(0 <= number < episodes for number in film):
        raise UsageError(f"film is {film}: name each episode once, from 0 to {episodes - 1}")
    if engine is not None and engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")

    from tabb.rendering import encode
    from tabb.rendering.backend import find_backend

    path = _out_of(given, out, encode.has_encoder())
    encode.check_out(path)
    find_backend()
    # These import MuJoCo and the environments; the errors above come without that delay.
    from tabb.rendering.film import FilmFormat, pictures
    from tabb.rendering.recording import record

    format = FilmFormat(*size, fps, speed, steps)
    columns = [record(policy, filmed, episodes, seed, film, engine or trained_in) for policy in loaded]
    labels = _labels(loaded, given)
    encode.write_film(path, pictures(filmed, labels, columns, format), fps)
    return Film(
        path,
        filmed.name,
        labels,
        film,
        tuple(tuple(one.return_at(len(one.rewards)) for one in column) for column in columns),
        tuple(tuple(len(one.rewards) for one in column) for column in columns),
        tuple(tuple(one.terminal for one in column) for column in columns),
    )


def _task_of_runs(given: Sequence[str | Path | Policy]) -> str | None:
    """The task whose Gymnasium environment the runs were evaluated in (`--env tabb/hopper-v0`), if any.

    Raises `UsageError` for another environment: films show the robots that tabb knows how to draw.
    """
    for one in given:
        env = None if isinstance(one, Policy) else env_of_run(Path(one))
        if env is not None:
            name = next((task.name for task in ALL_TASKS.values() if task.env_id == env), None)
            if name is None:
                raise UsageError(
                    f"{one}: was evaluated in {env}, and films show tasks of tabb alone; name one of the "
                    "same robot with --task (task=...)"
                )
            return name
    return None


def _task_of(policies: Sequence[Policy], task: str | Task | None) -> Task:
    """The task to film in; `UsageError` if there is none, or if a policy belongs to another robot."""
    known = [ALL_TASKS[name] for policy in policies if (name := str(policy.about.get("task"))) in ALL_TASKS]
    robots = sorted({one.robot for one in known})
    if len(robots) > 1:
        raise UsageError(f"the policies are of different robots ({', '.join(robots)}); film each robot on its own")
    if task is None:
        names = sorted({one.name for one in known})
        if len(names) != 1:
            why = f"were trained for {' and '.join(names)}" if names else "name no task"
            raise UsageError(f"the policies {why}; choose the task to film with --task (task=...)")
        task = names[0]
    filmed = get_task(task)
    if robots and robots[0] != filmed.robot:
        raise UsageError(
            f"the policies are of the robot {robots[0]}, which is not that of task {filmed.name}; choose another task"
        )
    for policy in policies:
        check_task_takes(policy.action_bounds, filmed.name)
        for what in ("observation_size", "action_size"):
            if getattr(filmed, what) != getattr(policy, what):
                raise UsageError(
                    f"a policy and task {filmed.name} do not fit: {what} is {getattr(policy, what)} and "
                    f"{getattr(filmed, what)}; film in a task of the same robot"
                )
    return filmed


def _out_of(given: Sequence[str | Path | Policy], out: str | Path | None, encoder: bool) -> Path:
    if out is not None:
        return Path(out)
    first = given[0]
    if isinstance(first, Policy):
        raise UsageError("a policy in memory has no folder; name the film's file (out=...)")
    folder = Path(first) if Path(first).is_dir() else Path(first).parent
    return folder / ("watch.mp4" if encoder else "watch.gif")


def _labels(policies: Sequence[Policy], given: Sequence[str | Path | Policy]) -> tuple[str, ...]:
    """The learner of each policy, with its seed if names are equal, or its position if that is not enough."""
    labels = []
    for policy, one in zip(policies, given, strict=True):
        rule, backbone = policy.about.get("rule"), policy.about.get("backbone")
        name = "policy" if isinstance(one, Policy) else Path(one).stem
        labels.append(f"{rule}@{backbone}" if rule and backbone not in (None, "iql") else str(rule or name))
    twice = Counter(labels)
    labels = [
        f"{label} seed {policy.about['seed']}" if twice[label] > 1 and "seed" in policy.about else label
        for label, policy in zip(labels, policies, strict=True)
    ]
    twice = Counter(labels)
    return tuple(f"{label} ({k})" if twice[label] > 1 else label for k, label in enumerate(labels, 1))

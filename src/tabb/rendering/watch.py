"""Films of policies in a task: `watch`, which the command `tabb watch` calls."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabb.environments.engine import ENGINES, Engine
from tabb.environments.own_environment import check_task_takes
from tabb.environments.tasks import ALL_TASKS, Task, get_task
from tabb.errors import UsageError
from tabb.evaluation.scores import EVALUATION_SEED
from tabb.policy import Policy
from tabb.training.folder import env_of_run

if TYPE_CHECKING:
    import gymnasium

MOST = 8
"""Most policies in one film."""


@dataclasses.dataclass(frozen=True)
class Film:
    """The film that was written, and what it shows."""

    path: Path
    """The file."""
    task: str
    """The task's name, or that of the other environment."""
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
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
) -> Film:
    """Film policies in a task without a display, several side by side and in step.

    All episodes of `tabb.evaluate(policy, task, episodes, seed, engine=engine)` are run, so that the filmed ones have
    its returns bit for bit. Another environment (`env_factory`) draws its own pictures.

    Args:
        policies: a policy, its file or its run folder, or several of them.
        task: a task of the catalogue; the default is the task, or the environment, that the policies were trained for.
        out: a .mp4 or .gif file. The default is watch.mp4 in the first policy's folder, or watch.gif without PyAV.
        episodes: episodes of the evaluation.
        film: indices of the episodes that are shown, one after another.
        seed: first reset seed; episode k starts with seed + k.
        engine: `legacy` or `native`; the default is the engine of the policies' training.
        size: width and height in pixels of one policy's panel.
        fps: pictures per second of film. GIF files round the time of a picture to 1/100 s, so 25 and 50 are exact.
        speed: simulated seconds per second of film.
        steps: most steps of an episode that are shown. The episode itself is not cut.
        env_factory: instead of a task, the id of any Gymnasium environment that has `rgb_array` pictures, or a function
            that makes one with `render_mode="rgb_array"`.

    Raises:
        UsageError: the task is unknown, the policies do not fit it or are of different robots, a number is out of
            range, no OpenGL backend works, the suffix is unknown, or an extra is missing.
        RunError: a policy cannot be read, or the film cannot be written.
    """
    if isinstance(policies, Policy | str | Path):
        policies = [policies]
    if not isinstance(policies, Iterable):
        raise UsageError(f"policies is {type(policies).__name__}: give a policy, its file or folder, or several")
    given = list(policies)
    if not 1 <= len(given) <= MOST:
        raise UsageError(f"{len(given)} policies: a film shows 1 to {MOST}")
    loaded = [one if isinstance(one, Policy) else Policy.load(one) for one in given]
    if task is not None and env_factory is not None:
        raise UsageError("task and env_factory: give one of them")
    elsewhere = env_factory
    if task is None and elsewhere is None:
        task, elsewhere = _place_of_runs(given)
    film = tuple(film)
    engines = {policy.about.get("engine") or "legacy" for policy in loaded}
    filmed = None if elsewhere is not None else _task_of(loaded, task)
    if filmed is not None and engine is None and len(engines) > 1:
        raise UsageError("the policies were trained with different engines; choose --engine legacy or --engine native")
    trained_in: Engine = "native" if engines == {"native"} else "legacy"
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}: it must be at least 1")
    if not film or len(set(film)) < len(film) or not all(0 <= number < episodes for number in film):
        raise UsageError(f"film is {film}: name each episode once, from 0 to {episodes - 1}")
    if engine is not None and engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    if engine is not None and filmed is None:
        raise UsageError(f"engine={engine}: an environment of your own has its own physics; leave engine out")

    from tabb.rendering import encode
    from tabb.rendering.backend import find_backend

    path = _out_of(given, out, encode.has_encoder())
    encode.check_out(path)
    if filmed is not None:
        find_backend()
    # These import MuJoCo and the environments; the errors above come without that delay.
    from tabb.rendering.film import Filmed, FilmFormat, pictures
    from tabb.rendering.recording import record
    from tabb.rendering.rendered import check_sizes, maker_of, record_rendered

    format, labels = FilmFormat(*size, fps, speed, steps), _labels(loaded, given)
    columns: list[Sequence[Filmed]]
    where: Task | str
    if filmed is not None:
        where = filmed
        columns = [record(policy, filmed, episodes, seed, film, engine or trained_in) for policy in loaded]
    else:
        assert elsewhere is not None
        make = maker_of(elsewhere)
        where = check_sizes(make, loaded)
        columns = [record_rendered(policy, make, episodes, seed, film) for policy in loaded]
    encode.write_film(path, pictures(where, labels, columns, format), fps)
    return Film(
        path,
        where if isinstance(where, str) else where.name,
        labels,
        film,
        tuple(tuple(one.return_at(len(one.rewards)) for one in column) for column in columns),
        tuple(tuple(len(one.rewards) for one in column) for column in columns),
        tuple(tuple(one.terminal for one in column) for column in columns),
    )


def _place_of_runs(given: Sequence[str | Path | Policy]) -> tuple[str | None, str | None]:
    """The task or the other Gymnasium environment that the runs were evaluated in (`--env`); None and None for neither.

    Raises `UsageError` where they were evaluated in several environments.
    """
    envs = {env for one in given if not isinstance(one, Policy) and (env := env_of_run(Path(one))) is not None}
    if len(envs) > 1:
        raise UsageError(f"the policies were evaluated in {' and '.join(sorted(envs))}; name one with --env")
    for env in envs:
        task = next((task.name for task in ALL_TASKS.values() if task.env_id == env), None)
        return (None, env) if task is None else (task, None)
    return None, None


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
    from tabb.registry import learner_name

    labels = []
    for policy, one in zip(policies, given, strict=True):
        rule = policy.about.get("rule")
        name = "policy" if isinstance(one, Policy) else Path(one).stem
        labels.append(learner_name(str(rule), policy.about.get("backbone")) if rule else name)
    twice = Counter(labels)
    labels = [
        f"{label} seed {policy.about['seed']}" if twice[label] > 1 and "seed" in policy.about else label
        for label, policy in zip(labels, policies, strict=True)
    ]
    twice = Counter(labels)
    return tuple(f"{label} ({k})" if twice[label] > 1 else label for k, label in enumerate(labels, 1))

"""Names, reference returns and scores of tasks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tabb.environments import TASKS, get_task, one_step
from tabb.environments.tasks import SAME_PHYSICS
from tabb.errors import UsageError

DATA = os.environ.get("TABB_DATA")


def test_there_are_92_tasks_in_three_suites():
    assert len(TASKS) == 92
    members = {suite: [t for t in TASKS.values() if suite in t.suites] for suite in ("d4rl", "odrl", "otdf")}
    assert {suite: len(tasks) for suite, tasks in members.items()} == {"d4rl": 4, "odrl": 80, "otdf": 12}
    assert [task.name for task in members["d4rl"]] == ["hopper", "halfcheetah", "walker2d", "ant"]
    assert all(name == task.name for name, task in TASKS.items())


def test_a_score_is_0_for_random_and_100_for_expert():
    task = get_task("walker2d-friction-0.1")
    scores = task.normalised_score([task.random_return, task.expert_return, 0.0])
    np.testing.assert_allclose(scores, [0, 100, -100 * 10.079455055289959 / 3350.1015449447], rtol=1e-12)
    assert float(get_task("hopper").normalised_score(1638.7)) == pytest.approx(51.0, abs=0.05)


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="set TABB_DATA to the folder of reference_scores.json")
def test_reference_returns_equal_the_published_ones():
    table = json.loads((Path(DATA) / "reference_scores.json").read_text())
    checked = set()
    for suite in ("odrl", "otdf"):
        for name, published in table[suite].items():
            if name.split("-")[0] not in ("hopper", "halfcheetah", "walker2d", "ant"):
                continue
            task = get_task(name)
            assert suite in task.suites
            assert (task.random_return, task.expert_return) == (published["random"], published["expert"])
            checked.add(task.name)
    assert len(checked) == 88


def test_otdf_gravity_is_odrl_gravity():
    assert get_task("hopper-gravity") is get_task("hopper-gravity-0.5")
    assert get_task("hopper-gravity").suites == ("odrl", "otdf")


def test_an_unknown_task_offers_the_closest():
    with pytest.raises(UsageError) as caught:
        get_task("hoper-gravity-0.5")
    message = str(caught.value)
    assert message.startswith("unknown task 'hoper-gravity-0.5': did you mean hopper-gravity-0.5")
    assert message.endswith("see `tabb tasks`")
    assert "\n" not in message
    with pytest.raises(UsageError, match=r"unknown task 'xyzzy': see `tabb tasks`"):
        get_task("xyzzy")


def test_names_are_known_without_mujoco():
    code = "import sys, tabb.environments.tasks as t; t.get_task('ant'); print('mujoco' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_tasks_that_are_the_same_physics():
    """Of all tasks of a robot, only those listed step alike, bit for bit, from states near, on and in the ground."""
    generator = np.random.default_rng(0)
    listed = {frozenset(names) for names, _ in SAME_PHYSICS}
    assert get_task("hopper-friction-0.5").same_physics == ("hopper-friction-0.1",)
    assert get_task("hopper-friction-2.0").same_physics == ()
    heights = {"hopper": (0.5, 1.3), "halfcheetah": (-0.3, 0.1), "walker2d": (0.4, 1.3), "ant": (0.2, 0.8)}
    found = set()
    for robot, (low, high) in heights.items():
        tasks = [task for task in TASKS.values() if task.robot == robot]
        states = generator.uniform(-2.5, 2.5, (40, tasks[0].observation_size))
        states[:, 0] = generator.uniform(low, high, 40)
        if robot == "ant":
            states[:, 1:5] /= np.linalg.norm(states[:, 1:5], axis=1, keepdims=True)
            states[:, 27:] = 0
        actions = generator.uniform(-1, 1, (40, tasks[0].action_size))
        alike: dict[bytes, list[str]] = {}
        for task in tasks:
            steps = one_step(task, states, actions)
            alike.setdefault(steps.next_observation.tobytes(), []).append(task.name)
        found |= {frozenset(names) for names in alike.values() if len(names) > 1}
    assert found == listed

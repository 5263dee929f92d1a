# %% [markdown]
# # Own data, from the log to the robot
#
# You have a log of a simulator and a short one of the robot. This notebook looks for faults in them, learns a policy
# from both, writes the report, shows which rows of the simulator's log to trust, and exports the policy. The logs are
# made in the first cell, so that you can run all of it as it is; put your own files in their place.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tabb

UPDATES = 2_000  # enough for a cart; leave it out for a robot

# %% [markdown]
# ## Two logs
#
# A cart has a place and a speed, and is pushed at random. The simulator does not know that the robot's track is muddy
# on its right side. The robot's log has a fault as well: its software ended episodes after 60 steps and wrote that
# down as `terminals`, as if the task had ended.


# %%
def log(rows, mud, seed):
    """Columns of a cart's log; `mud` is the share of speed that it loses per step beyond place 0.3."""
    generator = np.random.default_rng(seed)
    columns = {
        name: [] for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    }
    state, steps = generator.uniform(-0.6, 0.6, 2), 0
    for _ in range(rows):
        push = generator.uniform(-1, 1)
        speed = (0.98 - mud * (state[0] > 0.3)) * state[1] + 0.15 * push
        following, steps = np.array([state[0] + 0.2 * speed, speed]), steps + 1
        over = abs(following[0]) > 1
        cut = steps == 60 and not over
        for name, value in zip(columns, (state, [push], 1 - abs(following[0]), following, over, cut), strict=True):
            columns[name].append(value)
        state = following
        if over or cut:
            state, steps = generator.uniform(-0.6, 0.6, 2), 0
    return {name: np.array(column) for name, column in columns.items()}


simulator, robot = log(8_000, mud=0.0, seed=0), log(1_200, mud=0.5, seed=1)
np.savez("simulator.npz", **simulator)
np.savez("robot_as_logged.npz", **robot | {"terminals": robot["terminals"] | robot["timeouts"]})

# %% [markdown]
# ## Audit
#
# What is wrong in the files, where, and how to mend it:

# %%
print(tabb.audit("robot_as_logged.npz"))

# %% [markdown]
# The flags are mended as the audit says. Nothing else is found, in either log or in the pair.

# %%
np.savez("robot.npz", **robot)
print(tabb.audit(source="simulator.npz", target="robot.npz"))

# %%
source, target = tabb.load("simulator.npz"), tabb.load("robot.npz")
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True, sharey=True, layout="constrained")
for axis, rows, name in zip(axes, (source, target), ("simulator", "robot"), strict=True):
    axis.plot(*rows.observation.T, ".", markersize=1.5, color="#c85a00" if rows is source else "#0060a0")
    axis.set(title=f"{name}: {len(rows):,} rows", xlabel="place")
axes[0].set(ylabel="speed")
axes[1].axvspan(0.3, 1, color="0.5", alpha=0.2)
plt.show()

# %% [markdown]
# The grey part is the mud. In the robot's log speeds are low there; nothing in the data says why.
#
# ## Train
#
# A fifth of the robot's episodes is held out by itself, since there is no simulator of the robot to roll the policy
# out in.

# %%
learner = tabb.Learner(
    tabb.TABB(predictor=tabb.AgreedShift(updates=UPDATES, hidden=64)),
    tabb.IQL(hidden=(64, 64)),
    updates=UPDATES,
    evaluations=4,
)
learner.fit("simulator.npz", "robot.npz", folder="runs/mine")
print(learner.name, "has learned from", len(source), "and", len(target), "rows")

# %% [markdown]
# ## Which rows to trust
#
# Every row of the simulator's log has a *target Bellman mismatch* (TBM): how far its value is from what the robot
# would have got from the same state and push, as the fitted predictor says. The weight falls as it grows. Nobody told
# the learner of the mud.

# %%
scores = learner.score_rows()
weight = scores.columns["weight"]
place, speed = source.observation.T
bins = (np.linspace(-1, 1, 17), np.linspace(-1.2, 1.2, 13))
count, *_ = np.histogram2d(place, speed, bins)
total, *_ = np.histogram2d(place, speed, bins, weights=weight)
figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
with np.errstate(invalid="ignore"):
    shown = axis.pcolormesh(*bins, np.where(count > 3, total / count, np.nan).T, cmap="RdYlBu")
axis.axvline(0.3, color="black", linestyle="--")
axis.text(0.33, -1.1, "mud, unknown to\nthe simulator", fontsize=9)
axis.set(xlabel="place", ylabel="speed", title="Mean weight of the simulator's rows")
figure.colorbar(shown)
plt.show()

# %%
mud = place > 0.3
fast = np.abs(speed) > 0.3
for name, rows in (("on the free track", ~mud), ("in the mud, slow", mud & ~fast), ("in the mud, fast", mud & fast)):
    print(f"{name:18} {rows.sum():5} rows, mean weight {weight[rows].mean():.2f}")

# %% [markdown]
# The weights are yours for any other training, too: one per row, in the order of `tabb.load`. `tabb score
# runs/mine/seed0` writes them to a file.

# %%
best = np.argsort(weight)[::-1][: len(weight) // 2]
print(f"in the mud: {mud.mean():.0%} of all rows, {mud[best].mean():.0%} of the half that is trusted most")

# %% [markdown]
# ## Report
#
# One page without scripts or network: how good the policy is, what transfers by row, episode, time and region, the
# audit, and the command that makes the run again.

# %%
report = tabb.write_report("runs/mine/seed0")
print(report, f"{report.stat().st_size // 1000} kB")

# %% [markdown]
# ## Export
#
# The policy takes raw observations and gives raw actions; the normaliser is inside. `policy.npz` acts with NumPy
# alone, ONNX anywhere.

# %%
learner.save("policy.npz")
tabb.export("runs/mine/seed0", "onnx", "policy.onnx")
policy = tabb.Policy.load("policy.npz")
for observation in ([-0.8, 0.0], [0.0, 0.0], [0.8, 0.0]):
    print(observation, "-> push", policy.act(observation)[0].round(2))
print({file.name: f"{file.stat().st_size // 1000} kB" for file in sorted(Path.cwd().glob("policy.*"))})

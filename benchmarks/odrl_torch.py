"""One IQL update in PyTorch in the style of the ODRL benchmark's public code, for comparison in `updates.py`.

It is written from a description of that code and copies none of it. It has what determines the speed: eager mode,
replay buffers in NumPy, 128 + 128 rows drawn and converted to tensors in every update, a twin critic as one module,
three Adam optimisers, and a cosine schedule that steps in every update.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tabb.transitions import Transitions

HIDDEN = 256


def perceptron(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, n_out)
    )


class TwinQ(nn.Module):
    """Two critics in one module."""

    def __init__(self, observation: int, action: int) -> None:
        super().__init__()
        self.first = perceptron(observation + action, 1)
        self.second = perceptron(observation + action, 1)

    def forward(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([observation, action], dim=1)
        return self.first(x), self.second(x)


class TanhPolicy(nn.Module):
    """Mean and log standard deviation; IQL uses only the tanh of the mean."""

    def __init__(self, observation: int, action: int) -> None:
        super().__init__()
        self.trunk = perceptron(observation, 2 * action)

    def forward(self, observation: Tensor) -> Tensor:
        mean, log_std = self.trunk(observation).chunk(2, dim=-1)
        log_std.clamp(-20, 2)
        return torch.tanh(mean)


class ReplayBuffer:
    """Rows in NumPy arrays; sampled rows are converted to tensors."""

    def __init__(self, data: Transitions) -> None:
        self.columns = [
            np.asarray(data.observation),
            np.asarray(data.action),
            np.asarray(data.next_observation),
            np.asarray(data.reward)[:, None],
            1.0 - np.asarray(data.terminal)[:, None],
        ]

    def sample(self, rows: int) -> list[Tensor]:
        drawn = np.random.randint(0, len(self.columns[0]), size=rows)  # noqa: NPY002  (as the code it stands for)
        return [torch.FloatTensor(column[drawn]) for column in self.columns]


class TorchIQL:
    """IQL with ODRL's constants for MuJoCo."""

    discount, expectile, temperature, slow_rate, rate = 0.99, 0.7, 3.0, 0.005, 3e-4

    def __init__(self, source: Transitions, target: Transitions, updates: int, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        observation, action = source.observation_size, source.action_size
        self.source, self.target = ReplayBuffer(source), ReplayBuffer(target)
        self.critic = TwinQ(observation, action)
        self.slow_critic = copy.deepcopy(self.critic)
        for parameter in self.slow_critic.parameters():
            parameter.requires_grad = False
        self.value = perceptron(observation, 1)
        self.policy = TanhPolicy(observation, action)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=self.rate)
        self.value_optimiser = torch.optim.Adam(self.value.parameters(), lr=self.rate)
        self.policy_optimiser = torch.optim.Adam(self.policy.parameters(), lr=self.rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.policy_optimiser, updates)

    def update(self, rows: int = 128) -> None:
        """One update on `rows` source and `rows` target rows."""
        both = zip(self.source.sample(rows), self.target.sample(rows), strict=True)
        observation, action, following, reward, alive = (torch.cat(pair, dim=0) for pair in both)

        with torch.no_grad():
            slow_q = torch.min(*self.slow_critic(observation, action))
        advantage = slow_q - self.value(observation)
        asymmetry = torch.abs(self.expectile - (advantage < 0).float())
        value_loss = (asymmetry * advantage**2).mean()
        self.value_optimiser.zero_grad()
        value_loss.backward()
        self.value_optimiser.step()

        with torch.no_grad():
            backup = reward + self.discount * alive * self.value(following)
        first, second = self.critic(observation, action)
        critic_loss = ((first - backup) ** 2).mean() + ((second - backup) ** 2).mean()
        self.critic_optimiser.zero_grad()
        critic_loss.backward()
        self.critic_optimiser.step()

        for slow, fast in zip(self.slow_critic.parameters(), self.critic.parameters(), strict=True):
            slow.data.copy_(self.slow_rate * fast.data + (1 - self.slow_rate) * slow.data)

        weight = torch.exp(self.temperature * advantage.detach()).clamp(max=100.0)
        policy_loss = (weight * (self.policy(observation) - action) ** 2).mean()
        self.policy_optimiser.zero_grad()
        policy_loss.backward()
        self.policy_optimiser.step()
        self.schedule.step()

"""A `Step` by hand, for tests that call a seam on its own."""

import jax
import jax.numpy as jnp

from tabb.rules.rule import Features
from tabb.rules.step import Step


def step_of(batch, models=None, learned=(), value=lambda x: x[..., 0], discount=0.9, features=None):
    """The step of a batch: V(x) = x_0 and plain features unless others are given."""
    if features is None:
        pair = jnp.concatenate([batch.observation, batch.action], axis=-1)
        features = Features(batch.observation, batch.next_observation, pair)
    return Step(
        models=models,
        learned=learned,
        batch=batch,
        value=value,
        policy=lambda observation: jnp.zeros((*observation.shape[:-1], batch.action.shape[-1])),
        discount=discount,
        key=jax.random.key(0),
        number=jnp.asarray(0),
        updates=100,
        represented=features,
    )

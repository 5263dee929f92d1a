"""V2A (ICML 2026; authors' code: zq2r/V2A): DVDF where the source mixes several bodies.

    z       which body a row comes from: a latent of its stretch of steps (`tabb.models.bodies`)
    A       min_i Q_i,slow(s, a, z) - V(s, z) of Sparse Q-learning on the source
    score   λ c(s, a, s') + (1 - λ) Ã(s, a, z)                c: IGDF's cosine; Ã: the advantage, min-max over the batch

What an action is worth depends on the body; without z, values of a mixture are those of none of its bodies.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.models.bodies import Bodies, BodiesConfig, fit_bodies, init_bodies, latents
from tabb.models.fitting import Report, scores
from tabb.rules.dvdf import DVDF, Values, fit_values, init_values
from tabb.rules.igdf import Contrast, likenesses
from tabb.transitions import Transitions


class Told(eqx.Module):
    """IGDF's encoders, what tells bodies apart, and the source's value functions with it."""

    contrast: Contrast
    bodies: Bodies
    values: Values


def beside(data: Transitions, latent: Float[Array, "n z"]) -> Transitions:
    """The rows with their latent beside both observations."""
    return dataclasses.replace(
        data,
        observation=jnp.concatenate([data.observation, latent], axis=-1),
        next_observation=jnp.concatenate([data.next_observation, latent], axis=-1),
    )


@dataclasses.dataclass(frozen=True)
class V2A(DVDF):
    """Keep the source rows that are target-like and whose actions are good for the body that they come from."""

    name: ClassVar[str] = "v2a"
    small: ClassVar[dict[str, Any]] = DVDF.small | {
        "bodies": BodiesConfig(latent=2, width=4, hidden=(8,), decoders=1, stretch=8, updates=20, batch_size=8)
    }

    likeness: float = 0.6
    """λ, share of the cosine in the score; the rest is the advantage's [authors: 0.6]"""
    bodies: BodiesConfig = dataclasses.field(default_factory=BodiesConfig)
    """what tells the source's bodies apart"""

    def template(self, domains: Domains, key: PRNGKeyArray) -> Any:
        source = domains.source
        seen = beside(source[:1], jnp.zeros((1, self.bodies.latent)))
        return Told(
            self.fresh(domains, key), init_bodies(self.bodies, source, key), init_values(self.values, seen, key)
        )

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Any:
        contrast_key, body_key, value_key = jax.random.split(key, 3)
        contrast = self.fit(domains, contrast_key, report)
        bodies = fit_bodies(self.bodies, domains.source, body_key, report)
        return Told(contrast, bodies, fit_values(self.values, self.seen(bodies, domains), value_key, report))

    def seen(self, bodies: Bodies, domains: Domains) -> Transitions:
        """The source rows as its value functions see them."""
        return beside(domains.source, latents(bodies, domains.source, self.bodies.stretch))

    def columns(self, models: Any, domains: Domains) -> dict[str, Array]:
        advantage = scores(models.values.advantage, self.seen(models.bodies, domains))
        return {"score": likenesses(models.contrast, domains.source), "advantage": advantage}

"""A causal transformer over the steps of an episode: Decision Transformer's (Chen et al. 2021).

Each step is three tokens, in this order: the number that the policy is conditioned on (the return to go), the
observation, and the action. A token sees itself and the tokens before it. The action of a step is read off the token of
its observation, so it depends on the steps before, on the step's condition and on its observation.

    x      = norm(W token + b + embedding of the step's time)          as many norms and blocks as GPT-2 has
    block    x + attention(norm(x)), then x + W2 relu(W1 norm(x))
    action = tanh(W norm(x) + b)

The same code runs on NumPy's arrays and on JAX's: a policy acts by NumPy alone.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

TOKENS = 3
"""of a step"""
STATE = 1
"""which of them is the observation's"""
NOWHERE = -1e9
"""logit of a token that is not looked at"""
DEVIATION = 0.02
"""of the first weights within the blocks [GPT-2]"""

Factors = Iterator[Array] | None
"""of dropout, for one array of values after the other: 0 for those that are dropped; None where none is"""


class Steps(NamedTuple):
    """K consecutive steps of each of B episodes, oldest first. Where `mask` is 0 there was no step yet."""

    condition: Float[Any, "b k"]
    observation: Float[Any, "b k s"]
    """normalised"""
    action: Float[Any, "b k a"]
    time: Any
    """whole numbers [B, K]: the place of each step in its episode, from 0"""
    mask: Float[Any, "b k"]


class Dense(eqx.Module):
    """x W + b."""

    weight: Float[Any, "_in _out"]
    bias: Float[Any, " _out"]

    def __call__(self, x: Float[Any, "*batch in"]) -> Float[Any, "*batch out"]:
        return x @ self.weight + self.bias


class Norm(eqx.Module):
    """Layer normalisation with a gain and a shift for each unit."""

    gain: Float[Any, " d"]
    shift: Float[Any, " d"]

    def __call__(self, x: Float[Any, "*batch d"]) -> Float[Any, "*batch d"]:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        return centred * (variance + 1e-5) ** -0.5 * self.gain + self.shift


class Block(eqx.Module):
    """Attention, then a layer of its own for each token."""

    attention_norm: Norm
    query: Dense
    key_value: Dense
    mixed: Dense
    layer_norm: Norm
    widen: Dense
    narrow: Dense
    heads: int = eqx.field(static=True)

    def __call__(self, x: Float[Any, "b n d"], seen: Any, asked: slice, factors: Factors) -> Float[Any, "b m d"]:
        """The tokens `asked` after this block; `seen` [B, 1, N, N] says which tokens each looks at."""
        own = x[:, asked]
        own = own + dropped(self.mixed(self.attention(self.attention_norm(x), seen, asked, factors)), factors)
        hidden = self.widen(self.layer_norm(own))
        return own + dropped(self.narrow(hidden * (hidden > 0)), factors)

    def attention(self, x: Float[Any, "b n d"], seen: Any, asked: slice, factors: Factors) -> Float[Any, "b m d"]:
        """What the tokens `asked` see: for each head the mean of values, weighed by softmax(query key / sqrt(d))."""
        xp = x.__array_namespace__()
        width = x.shape[-1]

        def split(values: Any) -> Any:
            """[B, N, d] to [B, heads, N, d / heads]."""
            return values.reshape(*values.shape[:2], self.heads, -1).swapaxes(1, 2)

        query, both = split(self.query(x[:, asked])), self.key_value(x)
        key, value = split(both[..., :width]), split(both[..., width:])
        logits = query @ key.swapaxes(-1, -2) / math.sqrt(width // self.heads)
        logits = xp.where(seen[:, :, asked], logits, NOWHERE)
        share = xp.exp(logits - logits.max(axis=-1, keepdims=True))
        share = dropped(share / share.sum(axis=-1, keepdims=True), factors)
        mixed = (share @ value).swapaxes(1, 2)
        return mixed.reshape(*mixed.shape[:2], width)


class Transformer(eqx.Module):
    """From steps to the action of each, before any squashing."""

    condition: Dense
    observation: Dense
    action: Dense
    time: Float[Any, "longest d"]
    first_norm: Norm
    blocks: tuple[Block, ...]
    last_norm: Norm
    head: Dense

    def __call__(
        self, steps: Steps, dropout: tuple[PRNGKeyArray, float] | None = None, last: bool = False
    ) -> Float[Any, "b m a"]:
        """What precedes tanh of the action of each step, or of the last one alone, [B, K or 1, A].

        `dropout` is the key and the share of values that are dropped. Times from `longest` on share the last embedding.
        """
        x, seen = self._tokens(steps), visible(steps.mask)
        states = slice(-TOKENS + STATE, -TOKENS + STATE + 1) if last else slice(STATE, None, TOKENS)
        # Nothing but the tokens of observations is asked of the last block.
        asked = [slice(None)] * (len(self.blocks) - 1) + [states]
        factors = None if dropout is None or not dropout[1] else self._factors(x.shape, asked, *dropout)
        x = dropped(self.first_norm(x), factors)
        for block, tokens in zip(self.blocks, asked, strict=True):
            x = block(x, seen, tokens, factors)
        return self.head(self.last_norm(x))

    def _factors(
        self, shape: tuple[int, int, int], asked: list[slice], key: PRNGKeyArray, share: float
    ) -> Iterator[Array]:
        """Dropout's factors in the order in which they are used, from one draw: many take long to compile."""
        batch, tokens, width = shape
        shapes: list[tuple[int, ...]] = [shape]
        for block, some in zip(self.blocks, asked, strict=True):
            count = len(range(tokens)[some])
            shapes += [(batch, block.heads, count, tokens), (batch, count, width), (batch, count, width)]
        bits = jax.random.bits(key, (sum(map(math.prod, shapes)),), jnp.uint8)
        kept = bits >= round(256 * share)
        ends = itertools.accumulate(map(math.prod, shapes))
        return (
            jnp.where(kept[end - math.prod(one) : end].reshape(one), 1.0 / (1.0 - share), 0.0)
            for one, end in zip(shapes, ends, strict=True)
        )

    def _tokens(self, steps: Steps) -> Any:
        xp = steps.observation.__array_namespace__()
        time = self.time[xp.minimum(steps.time, len(self.time) - 1)]
        parts = (
            self.condition(steps.condition[..., None]) + time,
            self.observation(steps.observation) + time,
            self.action(steps.action) + time,
        )
        return xp.stack(parts, axis=2).reshape(len(time), -1, time.shape[-1])


def visible(mask: Float[Any, "b k"]) -> Any:
    """Which tokens each token looks at, [B, 1, 3K, 3K]: itself, and those before it of steps that there were."""
    xp = mask.__array_namespace__()
    there = xp.repeat(mask > 0, TOKENS, axis=1)
    place = xp.arange(there.shape[1])
    before, itself = place[:, None] >= place, place[:, None] == place
    return ((before & there[:, None, :]) | itself)[:, None]


def dropped(values: Float[Any, "*n"], factors: Factors) -> Float[Any, "*n"]:
    """The values times the next of the factors, if there are any."""
    return values if factors is None else values * next(factors)


class _Numbers:
    """Random numbers that are handed out in turn."""

    def __init__(self, numbers: Float[Array, " n"]) -> None:
        self._numbers, self._at = numbers, 0

    def next(self, *shape: int) -> Array:
        first, self._at = self._at, self._at + math.prod(shape)
        return self._numbers[first : self._at].reshape(shape)


@functools.partial(jax.jit, static_argnums=range(6))
def init_transformer(
    observation: int, action: int, width: int, layers: int, heads: int, longest: int, key: PRNGKeyArray
) -> Transformer:
    """Fresh weights: those of the blocks as GPT-2's, those of tokens and action uniform in +-1/sqrt(in)."""
    edge, blocks = 3 * width + (1 + observation + 2 * action) * width + action, 12 * layers * width**2
    uniform_key, normal_key = jax.random.split(key)
    # Two draws for all weights: one for each matrix takes long to compile.
    uniforms = _Numbers(jax.random.uniform(uniform_key, (edge,), minval=-1.0))
    normals = _Numbers(jax.random.normal(normal_key, (longest * width + blocks,)))

    def uniform(size: int, out: int) -> Dense:
        bound = 1.0 / math.sqrt(size)
        return Dense(bound * uniforms.next(size, out), bound * uniforms.next(out))

    def small(size: int, out: int) -> Dense:
        return Dense(DEVIATION * normals.next(size, out), jnp.zeros(out))

    def norm() -> Norm:
        return Norm(jnp.ones(width), jnp.zeros(width))

    def block() -> Block:
        return Block(
            attention_norm=norm(),
            query=small(width, width),
            key_value=small(width, 2 * width),
            mixed=small(width, width),
            layer_norm=norm(),
            widen=small(width, 4 * width),
            narrow=small(4 * width, width),
            heads=heads,
        )

    return Transformer(
        condition=uniform(1, width),
        observation=uniform(observation, width),
        action=uniform(action, width),
        time=normals.next(longest, width),
        first_norm=norm(),
        blocks=tuple(block() for _ in range(layers)),
        last_norm=norm(),
        head=uniform(width, action),
    )

"""Networks as plain pytrees: multilayer perceptrons, twin critics and the normaliser.

All functions take a batch on the leading axes and features on the last one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from tabb.float32 import is_constant

M = TypeVar("M", bound=eqx.Module)

LEAST_SCALE = 1e-3
"""What a column that has hardly moved is divided by."""
FEWEST_DRAWN = 1024
"""numbers that are drawn at least, for whatever shape"""


def normed_relu(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """ReLU of a layer whose units were given mean 0 and variance 1, row by row (layer normalisation).

    Without a gain of its own for each unit, which the next layer's weights can give.
    """
    return jax.nn.relu(jax.nn.standardize(x, axis=-1, epsilon=1e-5))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "normed-relu": normed_relu,
    "elu": jax.nn.elu,
    "swish": jax.nn.swish,
}


class MLP(eqx.Module):
    """Multilayer perceptron: linear layers with an activation between them, none after the last.

    `weights[i]` has shape [in, out] and `biases[i]` shape [out], so a batch is multiplied from the left
    (x @ W + b) without a transpose.
    """

    weights: tuple[Float[Array, "_in _out"], ...]
    biases: tuple[Float[Array, " _out"], ...]
    activation: str = eqx.field(static=True, default="relu")

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        activate = ACTIVATIONS[self.activation]
        last = len(self.weights) - 1
        # As one matrix: XLA's gradient of products with several leading axes takes up to a third longer on a CPU.
        leading = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1]) if len(leading) > 1 else x
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            if i < last:
                x = activate(x)
        return x.reshape(*leading, x.shape[-1])


def mlp(key: PRNGKeyArray, sizes: Sequence[int], activation: str = "relu") -> MLP:
    """A fresh MLP with layer sizes `sizes` = (in, hidden, ..., out).

    Weights and biases are uniform in +-1/sqrt(in) of their layer: the initialisation that the field's
    PyTorch code gets by default (baselines of ODRL), so that results are comparable.
    """
    weights, biases = [], []
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        bound = 1.0 / math.sqrt(n_in)
        weight_key, bias_key = jax.random.split(jax.random.fold_in(key, layer))
        weights.append(uniform(weight_key, (n_in, n_out), bound))
        biases.append(uniform(bias_key, (n_out,), bound))
    return MLP(tuple(weights), tuple(biases), activation)


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], bound: float) -> Array:
    """Numbers within +-bound: those of `jax.random.uniform` bit for bit, without compiling a program for each shape.

    A program that draws takes a tenth of a second to compile on a CPU, and a learner has layers of some twenty shapes.
    With JAX's usual generator a number depends on the key and on its place alone, so few numbers are the first of many,
    and the programs for 1,024, 4,096, 16,384, ... numbers serve all shapes.
    """
    count = math.prod(shape)
    by_place = jax.config.values["jax_threefry_partitionable"] and "threefry" in str(jax.random.key_impl(key))
    if isinstance(key, jax.core.Tracer) or not by_place:
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    drawn = FEWEST_DRAWN
    while drawn < count:
        drawn *= 4
    numbers = jax.random.uniform(key, (drawn,), minval=-bound, maxval=bound)
    return jnp.array(np.asarray(numbers)[:count].reshape(shape))  # sliced by NumPy: JAX would compile that too


class Committee(eqx.Module):
    """Several networks of one shape with separate weights; calling it gives the mean of their outputs."""

    members: tuple[MLP, ...]

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return jnp.mean(jnp.stack([member(x) for member in self.members]), axis=0)


def committee(key: PRNGKeyArray, sizes: Sequence[int], members: int, activation: str = "relu") -> MLP | Committee:
    """`members` fresh MLPs of the same sizes, or a single one as it is: the first is always that of `mlp(key, ...)`."""
    first = mlp(key, sizes, activation)
    if members == 1:
        return first
    others = jax.random.split(jax.random.fold_in(key, len(sizes)), members - 1)
    return Committee((first, *(mlp(other, sizes, activation) for other in others)))


def members_of(network: MLP | Committee) -> tuple[MLP, ...]:
    """The members of a committee, or the network itself."""
    return network.members if isinstance(network, Committee) else (network,)


class Twin(eqx.Module):
    """Two critics of the same shape with separate weights; calling it gives both values, shape [2, *batch]."""

    first: MLP
    second: MLP

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, 2 * batch]:
        return jnp.stack([self.first(x)[..., 0], self.second(x)[..., 0]])


def twin(key: PRNGKeyArray, sizes: Sequence[int], activation: str = "relu") -> Twin:
    """Two fresh MLPs of the same sizes."""
    first, second = jax.random.split(key)
    return Twin(mlp(first, sizes, activation), mlp(second, sizes, activation))


class Critics(eqx.Module):
    """Any number of critics of the same shape with separate weights; calling it gives all values, shape [n, *batch]."""

    members: tuple[MLP, ...]

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "n ..."]:
        return jnp.stack([member(x)[..., 0] for member in self.members])


def critics(key: PRNGKeyArray, sizes: Sequence[int], count: int, activation: str = "relu") -> Twin | Critics:
    """`count` fresh MLPs of the same sizes; two are those of `twin`."""
    if count == 2:
        return twin(key, sizes, activation)
    return Critics(tuple(mlp(one, sizes, activation) for one in jax.random.split(key, count)))


class Normaliser(eqx.Module):
    """Standardises values: (value - mean) / scale, entry by entry. One of observations lives inside every policy."""

    mean: Float[Array, "*s"]
    scale: Float[Array, "*s"]

    def __call__(self, values: Float[Array, "*batch_s"]) -> Float[Array, "*batch_s"]:
        return (values - self.mean) / self.scale


def normaliser_of(observations: NDArray[np.float32]) -> Normaliser:
    """Mean and spread of the rows [N, S]; an entry that never changes is only centred.

    An entry that has hardly moved so far may move later: its scale is `LEAST_SCALE` at least, or a hundredth of the
    usual (median) spread where that is less.
    """
    mean, deviation = observations.mean(axis=0), observations.std(axis=0)
    still = is_constant(observations.mean(axis=0, dtype=np.float64), observations.std(axis=0, dtype=np.float64))
    least = min(LEAST_SCALE, 0.01 * float(np.median(deviation[~still]))) if not still.all() else LEAST_SCALE
    scale = np.where(still, 1.0, np.maximum(deviation, np.float32(least)))
    return Normaliser(jnp.asarray(mean), jnp.asarray(scale.astype(np.float32)))


def moving_average(slow: M, fast: M, rate: float) -> M:
    """Slow copy after one step: slow + rate (fast - slow), leaf by leaf (Polyak averaging)."""
    return jax.tree.map(lambda s, f: s + rate * (f - s), slow, fast)


def avg_l1_norm(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """x / mean |x| over the last axis (SALE, Fujimoto et al. 2023): keeps latents at scale 1, prevents collapse."""
    return x / jnp.maximum(jnp.mean(jnp.abs(x), axis=-1, keepdims=True), 1e-8)

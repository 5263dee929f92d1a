"""A policy as an ONNX graph, built node by node without tracing or a framework.

    x      = (observation - mean) / scale
    action = clip(tanh(network(x)), ±1) + Σ 0 x        (scaled to the bounds of the action space before the sum)

The sum over an observation's entries is 0, or NaN if an entry is not finite. Without it infinity would give a full
action, because a graph cannot raise errors and the standard does not say whether relu propagates NaN. The clip is for
runtimes whose tanh exceeds 1 by rounding, such as onnxruntime 1.32. A candidate policy (BCQ) decodes, perturbs and
values its k candidates for each observation.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from tabb._version import __version__
from tabb.action_bounds import ActionBounds
from tabb.files import atomic
from tabb.own_files import refuse_others
from tabb.policy import Layers, Policy, networks_of
from tabb.policy.candidates import CandidatePolicy

OPSET, IR = 13, 7
"""Operators and file layout of ONNX 1.8 (2020), which old and new runtimes load."""


class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.low, self.high = self.constant("low", -1.0), self.constant("high", 1.0)

    def constant(self, name: str, value: ArrayLike, kind: type = np.float32) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def network(self, layers: Layers, name: str, *inputs: str, split: int = 0) -> str:
        """Add a relu network of one input, or of two concatenated ones, the first of width `split`; returns its output.

        Each of two inputs is multiplied with its own rows of the first weights, so that the observation [B, 1, S] which
        all candidates share is multiplied once and not copied. Several networks stand side by side, and their outputs'
        mean is the output: in onnxruntime 1.32 that is faster for batches than weights with an axis of networks.
        """
        networks = networks_of(layers)
        if len(networks) > 1:
            outputs = (self.network(one, f"{name}network_{i}_", *inputs, split=split) for i, one in enumerate(networks))
            total = functools.reduce(lambda one, other: self.add("Add", one, other), outputs)
            return self.add("Div", total, self.constant(f"{name}networks", len(networks)))
        (first, *others), biases = networks[0]
        parts = np.split(first, [split]) if len(inputs) == 2 else [first]
        x, *more = (
            self.add("MatMul", entering, self.constant(f"{name}weight_0" + "ab"[i] * (len(inputs) - 1), part))
            for i, (entering, part) in enumerate(zip(inputs, parts, strict=True))
        )
        for products in more:
            x = self.add("Add", x, products)
        x = self.add("Add", x, self.constant(f"{name}bias_0", biases[0]))
        for i, weight in enumerate(others, 1):
            x = self.add("MatMul", self.add("Relu", x), self.constant(f"{name}weight_{i}", weight))
            x = self.add("Add", x, self.constant(f"{name}bias_{i}", biases[i]))
        return x

    def clip(self, x: str) -> str:
        """`x` clipped to [-1, 1]."""
        return self.add("Clip", x, self.low, self.high)


def write_onnx(policy: Policy, out: Path) -> None:
    """Write the graph to `out` after ONNX's checker has passed it. Raises `RunError` if `out` cannot be written.

    Raises `UsageError` if `out` is there and is no policy that tabb wrote.
    """
    refuse_others(out, "onnx")
    model = onnx_model(policy)
    with atomic(out) as part:
        part.write_bytes(model.SerializeToString())


def onnx_model(policy: Policy) -> onnx.ModelProto:
    """The graph from "observation", float32 [batch, S], to "action" [batch, A]; a property holds `about` as JSON."""
    graph = _Graph()
    raw = "observation"
    x = graph.add("Sub", raw, graph.constant("mean", policy.mean))
    x = graph.add("Div", x, graph.constant("scale", policy.scale))
    if isinstance(policy, CandidatePolicy):
        action = _best_candidate(graph, policy, x)
    else:
        action = graph.clip(graph.add("Tanh", graph.network((policy.weights, policy.biases), "", x)))
    if policy.action_bounds is not None:
        action = _restored(graph, policy.action_bounds, action)
    zeros = graph.add("Mul", x, graph.constant("zero", 0.0))
    # A product with ones, not ReduceSum, which gives a wrong shape for an empty batch up to onnxruntime 1.22.
    zero_or_nan = graph.add("MatMul", zeros, graph.constant("ones", np.ones((policy.observation_size, 1))))
    graph.add("Add", action, zero_or_nan, name="action")

    def tensor(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [tensor(raw, policy.observation_size)],
            [tensor("action", policy.action_size)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="tabb",
        producer_version=__version__,
        doc_string=f"raw observations to actions in {policy.action_bounds or '[-1, 1]'}; NaN where an observation is "
        "not finite",
    )
    helper.set_model_props(model, {"format": "tabb-onnx-1", "about": json.dumps(policy.about)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _restored(graph: _Graph, bounds: ActionBounds, action: str) -> str:
    """The action in the robot's units, as `ActionBounds.restored`."""
    (middle, half), (low, high) = bounds.middle_and_half(), bounds.as_float32()
    action = graph.add("Mul", action, graph.constant("action_half", half))
    action = graph.add("Add", action, graph.constant("action_middle", middle))
    action = graph.add("Max", action, graph.constant("action_low", low))
    return graph.add("Min", action, graph.constant("action_high", high))


def _best_candidate(graph: _Graph, policy: CandidatePolicy, x: str) -> str:
    """The candidate [B, A] of the highest value; the first of several, as in NumPy's argmax."""
    size = policy.observation_size
    states = graph.add("Unsqueeze", x, graph.constant("second", [1], np.int64))  # [B, 1, S]
    latents = graph.constant("latents", policy.latents)  # [k, z]
    actions = graph.add("Tanh", graph.network((policy.weights, policy.biases), "", states, latents, split=size))
    change = graph.add("Tanh", graph.network(policy.perturbation, "perturbation_", states, actions, split=size))
    change = graph.add("Mul", change, graph.constant("reach", policy.reach))
    actions = graph.clip(graph.add("Add", actions, change))  # [B, k, A]
    values = graph.network(policy.critic, "critic_", states, actions, split=size)  # [B, k, 1]
    best = graph.add("ArgMax", values, axis=1, keepdims=0)  # [B, 1]
    return graph.add("GatherND", actions, best, batch_dims=1)

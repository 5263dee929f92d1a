"""Trained policies: raw observation in, action out, NumPy alone. `Policy.load` reads every kind."""

from tabb.policy.actor import Actor
from tabb.policy.candidates import CandidatePolicy
from tabb.policy.sequence import SequencePolicy
from tabb.policy.tanh_policy import (
    KINDS,
    UNREADABLE,
    Layers,
    Policy,
    forward,
    host_layers,
    networks_of,
    why_no_policy,
)

__all__ = [
    "KINDS",
    "UNREADABLE",
    "Actor",
    "CandidatePolicy",
    "Layers",
    "Policy",
    "SequencePolicy",
    "forward",
    "host_layers",
    "networks_of",
    "why_no_policy",
]

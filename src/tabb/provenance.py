"""Where a result comes from: the data by content, the versions and the machine."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from typing import Any

import jax
import numpy as np

from tabb.jax_switches import switches
from tabb.transitions import Transitions


def fingerprint(data: Transitions) -> str:
    """SHA-256 over all columns: tells on resuming whether the data are the same."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(data):
        array = np.ascontiguousarray(getattr(data, field.name))
        digest.update(f"{field.name} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Versions, machine and JAX's switches of this process, for the record of a run."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("tabb-rl", "jax", "jaxlib", "equinox", "optax", "numpy", "mujoco", "gymnasium")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "versions": versions,
        "jax": switches(),
    }

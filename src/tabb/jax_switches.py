"""JAX's switches, which other programs may have set: those that a run depends on, and those that stop training."""

from __future__ import annotations

import os
import traceback
from typing import Any

from tabb.errors import UsageError

RECORDED = (
    *("jax_default_prng_impl", "jax_enable_x64", "jax_default_matmul_precision", "jax_threefry_partitionable"),
    *("jax_random_seed_offset", "jax_enable_custom_prng", "jax_softmax_custom_jvp"),
)
"""switches that change the numbers of a run"""

_NEEDED = {
    "jax_disable_jit": False,
    "jax_no_execution": False,
    "jax_numpy_rank_promotion": ("allow", "warn"),
    "jax_numpy_dtype_promotion": "standard",
}
"""switches under which training does not work, and what they must be"""

_STARTING = (os.path.join("_src", "config.py"), os.path.join("_src", "xla_bridge.py"))
"""where JAX reads its switches and starts a platform"""


def switches() -> dict[str, Any]:
    """What JAX's switches are in this process, of those that change a run."""
    import jax

    return {name: jax.config.values[name] for name in RECORDED if name in jax.config.values}


def check_switches() -> None:
    """Raise `UsageError` for a switch, or a platform, with which nothing can be trained here."""
    import jax

    for name, needed in _NEEDED.items():
        value = jax.config.values.get(name, needed)
        if value != needed and not (isinstance(needed, tuple) and value in needed):
            usual = needed[0] if isinstance(needed, tuple) else needed
            raise UsageError(f"{_variable(name)}={value}: tabb does not work with it; unset it, or set it to {usual}")
    try:
        jax.devices()
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from None


def fault_of(error: BaseException) -> UsageError | None:
    """One line for an exception that a switch of JAX made as JAX was started; None if it comes from elsewhere."""
    where = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    given = {name: value for name, value in os.environ.items() if name.startswith("JAX_") and value}
    if not given or not any(file.endswith(_STARTING) for file in where):
        return None
    named = [name for name in given if name in str(error) or name.lower() in str(error)]
    platforms = [name for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if name in given]
    name = (named or platforms or list(given))[0]
    why = " ".join(str(error).split())[:200] or "no such platform here"
    remedy = "; unset it, or set it to cpu" if name in platforms else "; unset it"
    return UsageError(f"{name}={given[name]}: JAX does not start with it ({why}){remedy}")


def check_as_before(before: dict[str, Any] | None, place: str) -> None:
    """Raise `UsageError` where a run was started under other switches; runs of earlier versions recorded none."""
    now = switches()
    for name, value in (before or {}).items():
        if name in now and now[name] != value:
            raise UsageError(
                f"{place}: was started with {name}={value}, and now it is {now[name]}, which would change the run; set "
                f"or unset {_variable(name)} as it was"
            )


def _variable(name: str) -> str:
    """The environment variable of a switch."""
    return name.upper()

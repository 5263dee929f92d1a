"""Which OpenGL MuJoCo can draw with on this machine: EGL or OSMesa, which need no display, or the one of a window.

MuJoCo chooses by `MUJOCO_GL` when it is imported, which may be long before the first picture. So its contexts are made
here by name, and the name is found by drawing in another process: a library that fails to start cannot be unloaded.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from typing import Any

from tabb.errors import UsageError

BACKENDS = ("egl", "osmesa", "glfw", "cgl")
"""Names of the modules of `mujoco` that hold a `GLContext`, and of the values of `MUJOCO_GL` known here."""

_PROBE = "import sys; from tabb.rendering.backend import context; context(sys.argv[1], 16, 16).free()"
_INSTALL = (
    "install EGL (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri) or OSMesa (apt install libosmesa6), neither of "
    "which needs a display"
)


def context(backend: str, width: int, height: int) -> Any:
    """A current OpenGL context for pictures of that size in pixels, with `make_current()` and `free()`.

    Raises whatever its library raises where it does not work: `find_backend` names one that does.
    """
    made = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    made.make_current()
    if backend != "cgl":  # a context may be made and nothing drawn, as by EGL without a driver
        gl = importlib.import_module("OpenGL.GL")
        if not gl.glGetString(gl.GL_VERSION):
            raise RuntimeError("the context knows no OpenGL version")
    return made


@functools.cache
def find_backend() -> str:
    """The backend that `MUJOCO_GL` asks for, if it works, else the first that does; takes about a second, once.

    Raises:
        UsageError: none works, or `MUJOCO_GL` asks for one that does not; the message says what to install.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked and asked not in BACKENDS:
        raise UsageError(f"MUJOCO_GL is {asked!r}: unset it to have one found, or use one of {', '.join(BACKENDS)}")
    window = ("cgl", "glfw") if sys.platform == "darwin" else ("glfw",)
    shown = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    candidates = (asked,) if asked else (*(window if shown else ()), *(("egl", "osmesa") if os.name == "posix" else ()))
    failures = []
    for backend in candidates:
        failure = _failure(backend)
        if failure is None:
            return backend
        failures.append(f"{backend}: {failure}")
    hint = f", or unset MUJOCO_GL, which is {asked!r}" if asked else ""
    raise UsageError(f"no OpenGL to draw with ({'; '.join(failures)}): {_INSTALL}{hint}")


def _failure(backend: str) -> str | None:
    """What is wrong with a backend, in a few words; None if it draws."""
    # PyOpenGL takes its library from this variable, which a backend sets for the process that imports it.
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment |= {"MUJOCO_GL": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, backend], capture_output=True, text=True, env=environment, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "did not start within two minutes"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith(" ")]
    said = next((line for line in reversed(lines) if "Error" in line), f"ended with code {done.returncode}")
    return said[:120]

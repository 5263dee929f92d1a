"""The OpenGL backend that MuJoCo can draw with on this machine: EGL or OSMesa without a display, or a window's.

MuJoCo chooses a backend by `MUJOCO_GL` at its import, which may be long before the first picture. So contexts are made
here by name. A backend is tried in another process, because a library that fails to start cannot be unloaded.
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
"""Modules of `mujoco` that have a `GLContext`; also the values of `MUJOCO_GL` that are known here."""

_PROBE = "import sys; from tabb.rendering.backend import context; context(sys.argv[1], 16, 16).free()"
_INSTALL = (
    "install EGL (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri) or OSMesa (apt install libosmesa6); neither "
    "needs a display"
)


def context(backend: str, width: int, height: int) -> Any:
    """A current OpenGL context for pictures of that size in pixels, with `make_current()` and `free()`.

    Raises the library's own errors if it does not work; `find_backend` names a backend that does.
    """
    gl_context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    gl_context.make_current()
    if backend != "cgl":  # EGL without a driver makes a context that draws nothing
        gl = importlib.import_module("OpenGL.GL")
        if not gl.glGetString(gl.GL_VERSION):
            raise RuntimeError("the context has no OpenGL version")
    return gl_context


@functools.cache
def find_backend() -> str:
    """The backend that `MUJOCO_GL` names, or the first that works; the first call takes about a second.

    Raises:
        UsageError: none works, or `MUJOCO_GL` names one that does not; the message says what to install.
    """
    requested = os.environ.get("MUJOCO_GL", "").lower().strip()
    if requested and requested not in BACKENDS:
        raise UsageError(f"MUJOCO_GL is {requested!r}: unset it, or use one of {', '.join(BACKENDS)}")
    window = ("cgl", "glfw") if sys.platform == "darwin" else ("glfw",)
    has_display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    candidates = (
        (requested,)
        if requested
        else (*(window if has_display else ()), *(("egl", "osmesa") if os.name == "posix" else ()))
    )
    failures = []
    for backend in candidates:
        failure = _failure(backend)
        if failure is None:
            return backend
        failures.append(f"{backend}: {failure}")
    hint = f", or unset MUJOCO_GL, which is {requested!r}" if requested else ""
    raise UsageError(f"no OpenGL to draw with ({'; '.join(failures)}): {_INSTALL}{hint}")


def _failure(backend: str) -> str | None:
    """Why a backend does not draw, in a few words; None if it does."""
    # PyOpenGL takes its library from this variable, which a backend sets in the process that imports it.
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment |= {"MUJOCO_GL": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        probe = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE, backend], capture_output=True, text=True, env=environment, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "did not start within two minutes"
    if probe.returncode == 0:
        return None
    lines = [line.strip() for line in probe.stderr.splitlines() if line.strip() and not line.startswith(" ")]
    error = next((line for line in reversed(lines) if "Error" in line), f"ended with code {probe.returncode}")
    return error[:120]

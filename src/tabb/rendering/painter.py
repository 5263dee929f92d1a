"""Draws states of a MuJoCo model off-screen, with a camera, and with marks for what the model does not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from tabb.errors import UsageError
from tabb.rendering.backend import context, find_backend

Place = tuple[float, float, float]
LARGEST = 4096
"""Longest side of a picture, in pixels."""


@dataclass(frozen=True)
class Camera:
    """The viewpoint of a picture."""

    lookat: Place
    """The point in the middle of the picture, in metres."""
    distance: float
    """Distance from that point, in metres."""
    azimuth: float = 90.0
    """Degrees about the vertical: 90 looks along y, with x to the right."""
    elevation: float = -10.0
    """Degrees: -90 looks straight down."""


@dataclass(frozen=True)
class Mark:
    """A ball that is drawn but not in the model."""

    place: Place
    """Its centre, in metres."""
    radius: float
    """In metres."""
    colour: tuple[float, float, float, float] = (0.85, 0.2, 0.15, 1.0)
    """Red, green, blue, opacity, each in [0, 1]."""


class Painter:
    """Draws states of one model; `close` it, or use it in a `with` block.

    Raises:
        UsageError: the size cannot be drawn, or no OpenGL backend works.
    """

    def __init__(self, model: Any, width: int, height: int) -> None:
        if not (16 <= width <= LARGEST and 16 <= height <= LARGEST):
            raise UsageError(f"size {width}x{height}: each side of a picture must have 16 to {LARGEST} pixels")
        backend = find_backend()
        # The model holds the size of the buffer, and a small buffer cuts the picture. Physics do not depend on it.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        model.vis.quality.offsamples = 4
        try:
            self._context = context(backend, width, height)
            self._mjr = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except Exception as error:  # OpenGL raises errors of many kinds
            raise UsageError(f"{backend} cannot draw {width}x{height} here ({error}); try a smaller size") from None
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._mjr)
        self.model, self.data = model, mujoco.MjData(model)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        self._options, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._size = (height, width, 3)

    def paint(
        self,
        state: NDArray[np.float64],
        camera: Camera,
        marks: Sequence[Mark] = (),
        ghosts: Sequence[NDArray[np.float64]] = (),
    ) -> NDArray[np.uint8]:
        """The picture [height, width, 3] of `state` (see `state_of`), with the moving parts of `ghosts` drawn pale."""
        self._set(state)
        view = mujoco.MjvCamera()
        view.lookat = camera.lookat
        view.distance, view.azimuth, view.elevation = camera.distance, camera.azimuth, camera.elevation
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self.model, self.data, self._options, self._perturbation, view, everything, self._scene)
        for mark in marks:
            self._add(mark)
        for ghost in ghosts:
            self._add_ghost(ghost)
        self._context.make_current()
        picture = np.empty(self._size, np.uint8)
        mujoco.mjr_render(self._rectangle, self._scene, self._mjr)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._mjr)
        return np.flipud(picture)

    def _set(self, state: NDArray[np.float64]) -> None:
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)  # lights may follow a centre of mass
        mujoco.mj_camlight(self.model, self.data)
        mujoco.mj_tendon(self.model, self.data)

    def _add_ghost(self, state: NDArray[np.float64]) -> None:
        scene, first = self._scene, self._scene.ngeom
        self._set(state)
        moving = mujoco.mjtCatBit.mjCAT_DYNAMIC.value
        mujoco.mjv_addGeoms(self.model, self.data, self._options, self._perturbation, moving, scene)
        for geom in scene.geoms[first : scene.ngeom]:
            geom.rgba[3] *= 0.4
            geom.transparent = 1

    def _add(self, mark: Mark) -> None:
        scene = self._scene
        if scene.ngeom < scene.maxgeom:
            mujoco.mjv_initGeom(
                scene.geoms[scene.ngeom],
                mujoco.mjtGeom.mjGEOM_SPHERE.value,
                np.full(3, mark.radius),
                np.array(mark.place, float),
                np.eye(3).ravel(),
                np.array(mark.colour, np.float32),
            )
            scene.ngeom += 1

    def close(self) -> None:
        """Free the OpenGL context; nothing can be painted afterwards."""
        self._context.make_current()
        self._mjr.free()
        self._context.free()

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_STATE = mujoco.mjtState.mjSTATE_PHYSICS.value | mujoco.mjtState.mjSTATE_USER.value


def state_of(model: Any, data: Any) -> NDArray[np.float64]:
    """The state that a picture depends on: positions, velocities, activations and user inputs (mocap bodies)."""
    state = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, state, _STATE)
    return state

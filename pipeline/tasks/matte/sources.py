"""What the artist gave for a frame — roto, trimap or screen, and where the hair brush went — and the prior that it makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.matte.definition import MatteParameters
from pipeline.tasks.matte.prior import Prior, brushed, from_roto, from_trimap
from pipeline.tasks.matte.screen import key, prior_of
from pipeline.tasks.matte.strokes import strokes_at

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

LAYER = "matte"
"""The plate's own layer that stands for the roto when none is given, and the layer that is made."""
_CORE_EDGES, _GARBAGE_EDGES = 2.0, 8.0
"""With a screen: so many edge widths inside a roto all is subject, so many outside nothing is."""
_LEAST_EDGE_PX = 0.5
_BRIGHTEST = 1.5


@dataclass(frozen=True, slots=True)
class Given:
    """All that a frame's matte is made of. `rgb`, `clean` (height, width, 3) scene-linear; masks (height, width); None where not given."""

    rgb: Float
    parameters: MatteParameters
    roto: Float | None = None
    trimap: Float | None = None
    clean: Float | None = None
    hair: Bools | None = None

    @property
    def edge_px(self) -> float:
        """The edge's width in pixels of `rgb`."""
        return self.parameters.edge

    def prior(self) -> Prior | None:
        """What is known of the matte; None when the source says nothing about this frame."""
        of_roto = None if self.roto is None else from_roto(self.roto, self.edge_px, self.hair)
        if self.parameters.source == "roto":
            return of_roto
        if self.parameters.source == "trimap":
            return None if self.trimap is None else from_trimap(self.trimap, of_roto, self.hair)
        return self._of_screen()

    def scaled(self, height: int) -> Given:
        """The same at no more than `height` lines, for a preview."""
        full = self.rgb.shape[0]
        if height >= full:
            return self
        size = (max(1, round(self.rgb.shape[1] * height / full)), height)

        def small(plane: Float | None) -> Float | None:
            return (
                None if plane is None else np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)
            )

        hair = (
            None
            if self.hair is None
            else cv2.resize(self.hair.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        )
        edge = max(_LEAST_EDGE_PX, self.parameters.edge * height / full)
        rgb = small(self.rgb)
        assert rgb is not None  # it was given
        return replace(
            self,
            rgb=rgb,
            parameters=self.parameters.model_copy(update={"edge": edge}),
            roto=small(self.roto),
            trimap=small(self.trimap),
            clean=small(self.clean),
            hair=hair,
        )

    def _of_screen(self) -> Prior:
        core = garbage = None
        if self.roto is not None:
            solid = (self.roto > 0.5).astype(np.uint8)
            core = cv2.distanceTransform(solid, cv2.DIST_L2, 5) > _CORE_EDGES * self.edge_px
            garbage = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 5) > _GARBAGE_EDGES * self.edge_px
            if self.hair is not None:
                core, garbage = core & ~self.hair, garbage & ~self.hair
        return prior_of(key(self.rgb, self.parameters.screen, self.clean), core, garbage, self.hair)


def given(shot: ShotContext, frame: int) -> Given:
    """Read what there is for a frame. Raises: RunnerError (another task's parameters)."""
    parameters = shot.at(frame)
    if not isinstance(parameters, MatteParameters):
        raise RunnerError(
            f"a matte needs MatteParameters, not {type(parameters).__name__}", "submit the job to the task matte"
        )
    # What no model can make sense of must not spread: the pixels themselves pass on as they are.
    rgb = np.nan_to_num(shot.linear(frame), nan=0.0, posinf=65504.0, neginf=0.0).transpose(1, 2, 0)
    roto = shot.mask("roto", frame)
    if roto is None and parameters.roto is None:
        roto = shot.layer(LAYER, frame)
    clean = shot.other("clean_plate", frame) if parameters.source == "screen" else None
    return Given(
        rgb=np.ascontiguousarray(rgb),
        parameters=parameters,
        roto=None if roto is None else np.clip(roto, 0, 1).astype(np.float32),
        trimap=shot.mask("trimap", frame) if parameters.source == "trimap" else None,
        clean=None if clean is None else np.ascontiguousarray(clean.transpose(1, 2, 0)),
        hair=_hair(shot, frame, parameters),
    )


def shown(shot: ShotContext, frame: int, height: int | None = None) -> Float:
    """(3, height, width) in model space as an eye or a net takes it: 0 … 1.5, and no NaN. Above that a highlight would make every edge
    beside it look flat."""
    return np.clip(np.nan_to_num(shot.display(frame, height), nan=0.0), 0, _BRIGHTEST)


def _hair(shot: ShotContext, frame: int, parameters: MatteParameters) -> Bools | None:
    """Where the hair brush went. Strokes are in pixels of the display window, planes in the data window's."""
    runs = strokes_at(parameters.detail_strokes, frame)
    if not runs:
        return None
    window, display = shot.plate_window, shot.display_window
    left, top = window.x_min - display.x_min, window.y_min - display.y_min
    moved = [[(x - left, y - top) for x, y in run] for run in runs]
    return brushed((window.height, window.width), moved, parameters.detail_radius)

"""Matte's runner: each frame solved alone, held steady by its neighbours, the subject's own colours brought out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, RunnerError
from pipeline.models.facts import RVM_ONNX, VITMATTE
from pipeline.models.loader import threads
from pipeline.motion import FlowEstimator
from pipeline.quality.edges import edge_alignment
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext
from pipeline.tasks.matte.definition import MATTE
from pipeline.tasks.matte.foreground import estimate_foreground
from pipeline.tasks.matte.refine import refine, refine_guided, snap
from pipeline.tasks.matte.screen import despill
from pipeline.tasks.matte.sources import LAYER, Given, given, shown
from pipeline.tasks.matte.steady import Moment, Steadied, moment, steadied

if TYPE_CHECKING:
    from pipeline.tasks.matte.rvm import Rvm
    from pipeline.tasks.matte.vitmatte import VitMatte

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

PREVIEW_HEIGHT = 270
_PREVIEWS = 12
"""So many frames, spread over the shot, are shown in a fit."""


@dataclass(frozen=True, slots=True)
class _Single:
    """A frame by itself: its matte and picture; `band` (height, width), where it was solved; `sure` as the method says, or None."""

    moment: Moment
    band: Bools
    sure: float | None


class MatteRunner:
    """Roto, trimap or screen to a soft matte and premultiplied foreground. Keeps `pipeline.tasks.contract.TaskRunner`.

    A frame's result hangs on that frame, on as many on either side as `steady` says, and on the parameters: never on its chunk, and
    nothing is drawn by chance. Where the matte is 1 the plate's own pixels pass, bit for bit, but for what `despill` takes off them.
    """

    def __init__(self) -> None:
        self._vitmatte: VitMatte | None = None
        self._rvm: Rvm | None = None

    def load(self, model: ModelRef) -> None:
        """Nothing for the default; a ViTMatte folder or an ONNX file in RVM's layout by path. Raises: ModelError."""
        cv2.setNumThreads(threads())
        if model.path is None:
            return
        family = model.family
        if not family:
            from pipeline.models.inspect import recognise

            family = recognise(model.path, families=MATTE.families).family
        if family == VITMATTE:
            from pipeline.tasks.matte.vitmatte import VitMatte

            self._vitmatte = VitMatte(model.path, model.sha256)
        elif family == RVM_ONNX:
            from pipeline.tasks.matte.rvm import Rvm

            self._rvm = Rvm(model.path, model.sha256)
        else:
            raise ModelError(
                f"a matte can't be made by a model of the family {family}", "name a ViTMatte folder or an RVM file"
            )

    def unload(self) -> None:
        """Give the weights back."""
        self._vitmatte = self._rvm = None

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Show what the source gives on frames across the shot. Nothing is left behind: a frame needs no other's fit."""
        available = set(shot.available)
        frames = [f for f in shot.frames if f in available]
        count = min(_PREVIEWS, len(frames))
        previews = 0
        for place, share in enumerate(_spread(count)):
            frame = frames[round(share * (len(frames) - 1))]
            small = given(shot, frame).scaled(PREVIEW_HEIGHT)
            prior = small.prior()
            if prior is not None:
                picture = shown(shot, frame, PREVIEW_HEIGHT).transpose(1, 2, 0)
                shot.preview(frame, {LAYER: refine_guided(picture, prior, small.edge_px).matte})
                previews += 1
            shot.progress((place + 1) / count, f"preview {place + 1}/{count}")
        return {"previews": previews, "frames": len(frames)}

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """A result for each frame: the picture is the subject, premultiplied, and `matte.A` its alpha."""
        flow = FlowEstimator()
        singles: dict[int, _Single] = {}
        for number, frame in enumerate(shot.frames):
            here = given(shot, frame)
            near = self._near(shot, frame, here)
            for other in [frame, *near]:
                if other not in singles:
                    found = self._single(shot, other, here if other == frame else given(shot, other))
                    if found is not None:
                        singles[other] = found
            if frame not in singles:
                raise RunnerError(f"frame {frame} has no {_WANTED[here.parameters.source]}", "give one for every frame")
            own = singles[frame]
            held = steadied(own.moment, [singles[f].moment for f in near if f in singles], own.band, flow)
            yield _result(shot, frame, here, own, Steadied(snap(held.matte), held.off))
            # A later frame's neighbours begin where this one's did, at the earliest.
            for old in [f for f in singles if f < min(near, default=frame)]:
                del singles[old]
            shot.progress((number + 1) / len(shot.frames))

    def _near(self, shot: ShotContext, frame: int, here: Given) -> list[int]:
        """The neighbours that steady a frame, rising: none across a cut. A recurrent model has steadied itself."""
        if self._rvm is not None:
            return []
        reach = here.parameters.steady
        beside = [f for f in range(frame - reach, frame + reach + 1) if f != frame and f in set(shot.available)]
        return [f for f in beside if not any(min(f, frame) < cut <= max(f, frame) for cut in shot.cuts)]

    def _single(self, shot: ShotContext, frame: int, here: Given) -> _Single | None:
        """A frame's matte by itself; None when the source says nothing about it."""
        picture = shown(shot, frame)
        prior = here.prior()
        if self._rvm is not None:
            return self._recurrent(shot, frame, here, picture)
        if prior is None:
            return None
        if self._vitmatte is not None:
            matte = snap(self._vitmatte.matte(picture, prior.known, prior.unknown))
            return _Single(moment(matte, prior.unknown.astype(np.float32), picture), prior.unknown, None)
        if here.parameters.method == "guided":
            found = refine_guided(np.ascontiguousarray(picture.transpose(1, 2, 0)), prior, here.edge_px)
        else:
            found = refine(here.rgb, prior)
        return _Single(moment(found.matte, found.doubt, picture), prior.unknown, found.sure)

    def _recurrent(self, shot: ShotContext, frame: int, here: Given, picture: Float) -> _Single:
        """RVM's matte; a roto, where there is one, says what is surely subject and what is surely not."""
        assert self._rvm is not None  # asked only then
        before = [f for f in range(frame - here.parameters.steady, frame) if f in set(shot.available)]
        if cuts := [c for c in shot.cuts if c <= frame]:
            before = [f for f in before if f >= max(cuts)]
        matte = snap(self._rvm.matte([*(shown(shot, f) for f in before), picture]))
        band = (matte > 0) & (matte < 1)
        prior = here.prior() if here.roto is not None else None
        if prior is not None:
            matte = np.where(prior.unknown, matte, prior.known)
            band &= prior.unknown
        return _Single(moment(matte, band.astype(np.float32), picture), band, None)


_WANTED = {"roto": "roto, and the plate has no layer matte", "trimap": "trimap", "screen": "screen"}


def _result(shot: ShotContext, frame: int, here: Given, own: _Single, held: Steadied) -> FrameResult:
    """The frame as it is delivered."""
    alpha = held.matte
    subject = estimate_foreground(here.rgb, alpha)
    if here.parameters.source == "screen":
        subject = despill(subject, here.parameters.screen, here.parameters.despill)
    plate = shot.linear(frame)
    # `rgb` had its infinities and NaN taken out for the solvers; what is opaque and not despilled is the plate itself.
    untouched = (alpha >= 1) & (subject == here.rgb).all(-1)
    lit = np.ascontiguousarray((subject * alpha[..., None]).transpose(2, 0, 1), np.float32)
    rgb = np.where(untouched, plate, lit)
    edge = edge_alignment(alpha, shown(shot, frame))
    return FrameResult(
        frame=frame,
        layers={LAYER: {"A": alpha}},
        quality={
            "confidence": float(np.clip((edge if own.sure is None else own.sure) * (1 - held.off), 0, 1)),
            "edge": edge,
            "coverage": float(alpha.mean(dtype=np.float64)),
            "unknown": float(own.band.mean()),
            "unsteady": held.off,
        },
        rgb=rgb,
        changed=~untouched,
        alpha=alpha,
    )


def _spread(count: int) -> list[float]:
    """Shares of the range, 0 … 1, `count` of them evenly: the ends and the middle first, then what lies between."""
    if count <= 1:
        return [0.0] * count
    even = [i / (count - 1) for i in range(count)]
    first = [even[0], even[count // 2], even[-1]]
    return list(dict.fromkeys([*first, *even]))

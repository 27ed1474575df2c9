"""Frames that the plate hasn't: motion carried on beyond its ends, or shared between the two frames of a gap."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import grid
from pipeline.tasks.shot_extension.camera import Matrix, motion_of
from pipeline.tasks.shot_extension.smooth import push_pull
from pipeline.tasks.shot_extension.splat import splat

Float = NDArray[np.float32]

_MOVING = 1 / 480
"""What differs from the camera by more than this part of the picture's height is an object, and hides what it lands on."""
_IN_FRONT = 20.0
"""How much more an object counts where it lands on the background."""
_ALONE = 0.2
"""What a point that only one side has counts there."""
_DENSE = 0.25
"""Below this part of the usual density nothing has landed."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a made frame's pixels come from, on the flow's grid.

    `fields`: for each source frame its number, the vector from each made pixel to where it lies there, (h, w, 2), and its share, (h, w).
    Shares of all sources sum up to 1 wherever `known` is.
    `known`: (h, w) 0 … 1: whether anything landed here. `confidence`: (h, w) 0 … 1.
    """

    fields: tuple[tuple[int, Float, Float], ...]
    known: Float
    confidence: Float


def extrapolate(
    last: int,
    back: Float,
    forth: Float,
    camera_back: Matrix,
    camera_on: Matrix,
    *,
    steps: float,
    span: int,
    decay: float,
    size: tuple[int, int],
) -> Moved:
    """The frame `steps` beyond the plate's frame `last`.

    `back`: flow from `last` to the plate frame before it, `span` frames away, and `camera_back` the camera's part in it; `forth`: the flow
    the other way, by which `back` is checked. `camera_on`: from `last` to the made frame. Objects keep their speed against the
    background, less `decay` with each frame.
    """
    shape = back.shape[:2]
    own = (back - motion_of(camera_back, (shape[0], shape[1]), size)) / -span
    reach = steps if decay == 0 else (1 - (1 - decay) ** steps) / decay * (1 - decay)
    ahead = (motion_of(camera_on, (shape[0], shape[1]), size) + reach * own).astype(np.float32)
    moving = (np.hypot(own[..., 0], own[..., 1]) * span > _MOVING * shape[0]).astype(np.float32)
    sure = consistency(back, forth)
    landed, density = splat(
        np.dstack([-ahead, sure]).astype(np.float32), ahead, (1 + _IN_FRONT * moving).astype(np.float32)
    )
    known = (density >= _DENSE).astype(np.float32)
    inverse = np.ascontiguousarray(landed[..., :2])
    confidence = landed[..., 2] * known * np.float32(0.85**steps)
    return Moved(((last, _patch(inverse, known), np.ones(shape, np.float32)),), known, confidence.astype(np.float32))


def between(a: int, b: int, flow_ab: Float, flow_ba: Float, t: float) -> Moved:
    """The frame at the part `t` of the way from plate frame a to b; linear motion, each side only where it saw the point.

    Both flows are carried to the made frame and averaged there, so that both sides are taken from where they agree on.
    """
    shape = flow_ab.shape[:2]
    ones = np.ones(shape, np.float32)
    sure_a, sure_b = consistency(flow_ab, flow_ba), consistency(flow_ba, flow_ab)
    from_a, dense_a = splat(np.dstack([flow_ab, sure_a]), t * flow_ab, 0.05 + sure_a)
    from_b, dense_b = splat(np.dstack([flow_ba, sure_b]), (1 - t) * flow_ba, 0.05 + sure_b)
    weight_a = dense_a * (0.05 + from_a[..., 2])
    weight_b = dense_b * (0.05 + from_b[..., 2])
    total = weight_a + weight_b
    known = (total > 0.01).astype(np.float32)
    motion = (from_a[..., :2] * weight_a[..., None] - from_b[..., :2] * weight_b[..., None]) / np.maximum(total, 1e-3)[
        ..., None
    ]
    motion = cv2.blur(_patch(motion.astype(np.float32), known), (3, 3))
    # A side from which nothing lands here doesn't see the point. One whose points the other lacks isn't wrong for that: it may be the only
    # one to see them.
    seen_a = np.minimum(dense_a, 1) * (_ALONE + (1 - _ALONE) * from_a[..., 2]) + 0.01
    seen_b = np.minimum(dense_b, 1) * (_ALONE + (1 - _ALONE) * from_b[..., 2]) + 0.01
    share = (1 - t) * seen_a / ((1 - t) * seen_a + t * seen_b)
    share = cv2.blur(share.astype(np.float32), (3, 3))
    confidence = np.maximum(np.minimum(dense_a, 1) * from_a[..., 2], np.minimum(dense_b, 1) * from_b[..., 2])
    return Moved(
        ((a, (-t * motion).astype(np.float32), share), (b, ((1 - t) * motion).astype(np.float32), ones - share)),
        ones,
        confidence.astype(np.float32),
    )


def consistency(out: Float, back: Float) -> Float:
    """(h, w) 0 … 1: how well going along `out` and home along `back` ends where it began (Sundaram et al. 2010, made soft)."""
    own = grid(out.shape[0], out.shape[1])
    home = out + cv2.remap(
        back, own + out, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3, 1e3)
    )
    limit = 0.02 * np.square(out).sum(-1) + 0.5
    return np.asarray(np.exp(-np.square(home).sum(-1) / limit), np.float32)


def _patch(field: Float, known: Float) -> Float:
    """A field with its holes filled from round them."""
    if known.all():
        return field
    return push_pull(field, known)

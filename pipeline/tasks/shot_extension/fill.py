"""What no frame shows: filled from patches of what is there (PatchMatch, Barnes et al. 2009; the voting of Wexler et al. 2007).

Coarse to fine: at each level every patch over the hole finds its nearest neighbour among wholly known patches, and every missing pixel
becomes the mean of what the patches over it say. Deterministic for a seed.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.shot_extension.smooth import push_pull

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Places = NDArray[np.int32]

_HALF = 3
"""Of a patch's side: it has 7 pixels, here as in `patch_search`."""
_COARSEST = 20
"""Lines of the coarsest level, about."""
_ROUNDS = (8, 6, 4, 3)
"""Rounds of search and vote on the coarsest level and those after; the last goes for all finer ones."""
_LEAST_PATCHES = 64
_LESS_TRUST = np.float32(1.3)
"""By which trust falls with each pixel away from what is known."""
_TOLERANCE = (1e-3, 5e-5)
"""Mean squared difference of patches, in model space, that is as good as none, while structure is laid out and on the finest level.
Without it, noise that matches noise outvotes all structure; with too much of it, everything becomes the mean of everything."""


def fill(picture: Float, known: Mask, *, seed: int) -> Float:
    """`picture` (h, w, 3) with the pixels outside `known` (h, w) made up; known ones stay as they are.

    Where there are too few whole patches to take from: a smooth continuation.
    """
    if known.all():
        return picture
    levels = [(picture, known)]
    while min(levels[-1][1].shape) >= 2 * _COARSEST:
        levels.append(_halved(*levels[-1]))
    made, matches = picture, None
    for depth, (level, mask) in enumerate(reversed(levels)):
        sources = cv2.erode(mask.astype(np.uint8), np.ones((2 * _HALF + 1,) * 2, np.uint8), borderValue=0) > 0
        if int(sources.sum()) < _LEAST_PATCHES:
            made = push_pull(level, mask.astype(np.float32))
            continue
        start = _mirrored(mask) if matches is None else _doubled(matches, mask.shape)
        rounds = _ROUNDS[min(depth, len(_ROUNDS) - 1)]
        finest = depth == len(levels) - 1
        made, matches = _complete(level, mask, sources, start, rounds=rounds, seed=seed + depth, finest=finest)
    return np.where(known[..., None], picture, made).astype(np.float32)


def _mirrored(known: Mask) -> Places:
    """(h, w, 2) as y, x: for each missing pixel its mirror image behind the nearest known one. A fill that starts smooth ends smooth."""
    h, w = known.shape
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    ys, xs = np.nonzero(known)
    at = np.zeros((labels.max() + 1, 2), np.int32)
    at[labels[ys, xs]] = np.stack([ys, xs], -1)
    y, x = np.mgrid[0:h, 0:w]
    return np.asarray(np.clip(2 * at[labels] - np.dstack([y, x]), 0, (h - 1, w - 1)), np.int32)


def _doubled(matches: Places, shape: tuple[int, ...]) -> Places:
    """A level's matches on the next finer one: neighbours stay neighbours."""
    h, w = shape[:2]
    y, x = np.mgrid[0:h, 0:w]
    coarse = matches[np.minimum(y // 2, matches.shape[0] - 1), np.minimum(x // 2, matches.shape[1] - 1)]
    return np.asarray(np.clip(coarse * 2 + np.dstack([y % 2, x % 2]), 0, (h - 1, w - 1)), np.int32)


def _halved(picture: Float, known: Mask) -> tuple[Float, Mask]:
    h, w = known.shape
    size = ((w + 1) // 2, (h + 1) // 2)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    light = cv2.resize(picture * known[..., None].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(light / np.maximum(weight, 1e-6)[..., None], np.float32), weight > 0.5


def _complete(
    level: Float, known: Mask, sources: Mask, start: Places, *, rounds: int, seed: int, finest: bool
) -> tuple[Float, Places]:
    """Search and vote in turn on one level, from the matches `start`. Returns the picture and its matches, (h, w, 2)."""
    # Here, because what it compiles is slow to load and a plate that motion covers never asks for it.
    from pipeline.tasks.shot_extension.patch_search import search, vote

    tolerance = _TOLERANCE[finest]
    around = cv2.dilate((~known).astype(np.uint8), np.ones((2 * _HALF + 1,) * 2, np.uint8)) > 0
    ys, xs = np.nonzero(around)
    targets = np.stack([ys, xs], -1).astype(np.int32)
    index = np.full(known.shape, -1, np.int32)
    index[ys, xs] = np.arange(len(ys))
    places = np.stack(np.nonzero(sources), -1).astype(np.int32)
    rng = np.random.default_rng(seed)
    match = start[ys, xs]
    lost = ~sources[match[:, 0], match[:, 1]]
    match[lost] = places[rng.integers(0, len(places), int(lost.sum()))]

    def copied(picture: Float) -> Float:
        """Each missing pixel from the middle of its own patch's match: a mean of patches is soft, and finds softer ones."""
        out = picture.copy()
        out[ys, xs] = picture[match[:, 0], match[:, 1]]
        return np.where(known[..., None], picture, out).astype(np.float32)

    # Far inside the hole there is less to go by: what lies near its border speaks louder.
    depth = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 3)
    trust = np.power(_LESS_TRUST, -depth).astype(np.float32)
    picture = copied(np.ascontiguousarray(level))
    for turn in range(rounds):
        cost = search(picture, sources, targets, index, match, trust, turn, int(rng.integers(1, 2**31 - 1)))
        made = vote(picture, targets, match, cost, known, trust, tolerance)
        picture = np.where(known[..., None], picture, made).astype(np.float32)
    matches = start.copy()
    matches[ys, xs] = match
    return copied(picture), matches

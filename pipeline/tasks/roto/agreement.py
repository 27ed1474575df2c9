"""A frame's matte, held against those of the frames on either side.

What the net says of a neighbour is brought here along the flow and joins the mean of the logits, where the flow's round trip
closes. One frame that stumbles is outvoted; a neighbour that was painted counts as what it is. Only the net's own answers are
passed on, never a mean, so that a frame depends on itself and its two neighbours alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import FlowPair, Warp
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.roto.fitted import NET, Fitted, load_flows, load_priors
from pipeline.tasks.roto.layers import WORKING_HEIGHT, fit_to
from pipeline.tasks.roto.sampler import BRIGHTEST

if TYPE_CHECKING:
    from pipeline.tasks.roto.fused import FusedNet

Float = NDArray[np.float32]

_SAY = 0.5
"""A neighbour's weight against the frame's own 1."""
_CLOSES = 0.6
"""A round trip counts as closed from this confidence."""
_SUREST = 0.0025
"""Probabilities are held this far from 0 and 1: no one frame outvotes the rest for good."""


class Agreement:
    """Mattes of frames that are asked for one after another. `answer` gives (objects, height, width) 0 … 1 of one frame alone;
    it is asked once for each. `order`: the fit's frames, rising; `flows`: frame → flow between it and the next of `order`, absent
    across a cut; `readable`: the frames that `answer` may be asked for."""

    def __init__(
        self,
        answer: Callable[[int], Float],
        order: Sequence[int],
        flows: Mapping[int, FlowPair],
        readable: Sequence[int],
    ) -> None:
        self._answer = answer
        self._order = list(order)
        self._index = {frame: i for i, frame in enumerate(self._order)}
        self._flows = flows
        self._readable = frozenset(readable)
        self._logits: dict[int, Float] = {}

    def at(self, frame: int) -> Float:
        """(objects, height, width) 0 … 1. Frames that lie before the one ahead of `frame` are forgotten."""
        total = self._logit(frame).copy()
        shape = (total.shape[1], total.shape[2])
        votes = np.ones(shape, np.float32)
        for other, pair, ahead in self._beside(frame):
            there = self._logit(other)
            warp = Warp(pair.forward, pair.backward, shape) if ahead else Warp(pair.backward, pair.forward, shape)
            say = _say(warp, shape)
            for i, plane in enumerate(there):
                total[i] += say * warp.matte(plane)
            votes += say
        at = self._index[frame]
        self._logits = {f: x for f, x in self._logits.items() if self._index[f] >= at}
        return np.asarray(1 / (1 + np.exp(-total / votes)), np.float32)

    def _beside(self, frame: int) -> Iterator[tuple[int, FlowPair, bool]]:
        """Neighbours in the same shot, the flow between, and whether the neighbour lies ahead."""
        at = self._index[frame]
        for i, first in ((at - 1, at - 1), (at + 1, at)):
            if 0 <= i < len(self._order) and self._order[i] in self._readable and self._order[first] in self._flows:
                yield self._order[i], self._flows[self._order[first]], i > at

    def _logit(self, frame: int) -> Float:
        if frame not in self._logits:
            p = np.clip(self._answer(frame), _SUREST, 1 - _SUREST)
            self._logits[frame] = np.log(p / (1 - p))
        return self._logits[frame]


def of_shot(shot: ShotContext, fitted: Fitted) -> Agreement:
    """What a fitted shot's own net makes of the shot's frames and context. Raises: ModelError, RunnerError (no finished fit)."""
    from pipeline.tasks.roto.fit import read_net
    from pipeline.tasks.roto.fused import FusedNet

    net = FusedNet(read_net(shot.folder / NET), bfloat16=fitted.bfloat16)
    order = sorted({frame for frames in fitted.quality.values() for frame in frames})
    flows = load_flows(shot.folder, shot.available, (fitted.height, fitted.width))
    return Agreement(lambda frame: _alone(shot, fitted, net, frame), order, flows, shot.available)


def _alone(shot: ShotContext, fitted: Fitted, net: FusedNet, frame: int) -> Float:
    """What is known of a frame by itself, (objects, height, width): what was painted, the net's answer for the rest."""
    from pipeline.tasks.roto.infer import predict

    shape = (fitted.height, fitted.width)
    known = {n: fit_to(shot.keys[n][frame], shape) for n in fitted.objects if frame in shot.keys.get(n, {})}
    if len(known) == len(fitted.objects):
        return np.stack([known[name] for name in fitted.objects])
    priors = load_priors(shot.folder, fitted.objects, [frame])[frame]
    quality = [fitted.quality[name][frame] for name in fitted.objects]
    areas = [fitted.key_area[name] for name in fitted.objects]
    rgb = np.clip(shot.display(frame, WORKING_HEIGHT), 0, BRIGHTEST)
    each = len(fitted.objects) if net.objects == len(fitted.objects) else 1  # a studio's net knows one object
    parts = [slice(i, i + each) for i in range(0, len(fitted.objects), each)]
    found = np.concatenate([predict(net, rgb, priors[p], quality[p], areas[p]) for p in parts])
    for i, name in enumerate(fitted.objects):
        found[i] = known.get(name, found[i])
    return found


def _say(warp: Warp, shape: tuple[int, int]) -> Float:
    """The neighbour's weight at each pixel, (height, width)."""
    half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    closes = (warp.confidence(np.ones(half, np.float32)) > _CLOSES).astype(np.float32)
    return np.asarray(cv2.resize(closes, (shape[1], shape[0])), np.float32) * np.float32(_SAY)

"""Prompts as a key: what an artist points at becomes a matte of that frame, which the shot's own net then learns from.

Two witnesses in turn. First the ImageNet encoder's features: a linear classifier tells what lies inside the box, or near the
points, from what lies outside, and is taught again by its own answer until the surroundings inside the box have gone over to
the outside (self-training, as in multiple-instance learning). Then GrabCut (Rother et al. 2004), started from that answer,
draws the edge along the plate's colours. Against GrabCut from the same tight box alone, mean overlap with the truth: .72 for
.56 on the frames it was tuned on, level on eight others (.56); three points in the box lift those to .70.

Arrays are (height, width) at working resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.parameters import Box
from pipeline.quality.overlap import region_similarity
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.roto.layers import MATTE, WORKING_HEIGHT, small
from pipeline.tasks.roto.prompts import Prompts, check_prompts, prompted_object
from pipeline.tasks.roto.refine import enlarge

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.tasks.roto.net import Encoder

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_STRIDE = 4
"""Pixels a side of a feature cell."""
_TAPS = (3, 4)
"""Features that say what a thing is, rather than what it looks like: strides 16 and 32."""
_ROUNDS = 8
_BOX_DECAY, _POINTS_DECAY = 0.03, 0.003
"""Weight decay of the classifier. A box says little: a weaker decay would learn where it is, instead of what is in it."""
_TOLD = 3.0
"""Weight of a cell that was pointed at."""
_SURE, _LOST = 0.9, 0.1
"""Answers beyond these aren't asked again by GrabCut."""
_CUTS = 3
_DOT = 0.012
"""Radius of a point or a stroke, as a part of the picture's height."""
_NEAR, _APART, _FADE = 0.03, 0.3, 0.25
"""Distances from the points, likewise: what is surely the object still, what is surely not, and how the answer fades."""
_CRUMB = 0.05
"""A piece smaller than this part of the largest is dropped, unless it was pointed at."""
_MARGIN = 0.02
"""How far the object may pass the box, as a part of the box's sides: few draw them exactly."""


class _Keyed:
    """A shot with one more object's keys; all else is the shot's own."""

    def __init__(self, shot: ShotContext, keys: Mapping[str, Mapping[int, Float]]) -> None:
        self._shot, self.keys = shot, keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shot, name)


def keyed_by(
    shot: ShotContext, prompts: Mapping[int, Prompts], start: Mapping[str, Tensor] | None
) -> tuple[ShotContext, dict[str, float]]:
    """The shot with mattes made of its prompts among its keys, and object → how far these are to be believed, 0 … 1.

    `start`: the weights that a fit starts from, as a runner loaded them.
    Raises: RunnerError (prompts where a key is, beside several objects, or that say only what is outside; nothing was found).
    """
    if start is None:
        raise RunnerError("the model was not loaded", "call load() before fit()")
    check_prompts(shot, prompts)
    encoder = _encoder(start)
    height, width = shot.plate_window.height, shot.plate_window.width
    name = prompted_object(shot.keys)
    made: dict[int, Float] = {}
    credits: list[float] = []
    for frame, asked in prompts.items():
        if not asked.says_where:
            continue
        rgb = np.clip(shot.display(frame, WORKING_HEIGHT), 0, 1)
        lines, columns = rgb.shape[1:]
        there = asked.scaled(columns / width, lines / height)
        shot.preview(frame, {MATTE: small(_drawn(there, lines, columns))})
        matte, credit = key_of(rgb, there, encoder)
        if matte.max() < 0.5:
            raise RunnerError(f"nothing was found where frame {frame} was pointed at", "draw strokes, or paint a key")
        made[frame] = enlarge(matte, height, width)
        credits.append(credit)
        shot.preview(frame, {MATTE: small(matte)})
    own = dict(shot.keys.get(name, {}))
    keys = {**shot.keys, name: {**own, **made}}
    return cast(ShotContext, _Keyed(shot, keys)), {} if own else {name: min(credits)}


def key_of(rgb: Float, prompts: Prompts, encoder: Encoder) -> tuple[Float, float]:
    """A hard matte of what was pointed at in `rgb` (3, height, width) 0 … 1, and how far to believe it: the overlap of what the
    features say with what the colours made of it."""
    height, width = rgb.shape[1:]
    dots = _dots(prompts, height, width)
    allowed = _allowed(prompts.box, height, width)
    likely = _by_features(rgb, prompts, dots, allowed, encoder)
    picture = np.ascontiguousarray((rgb.transpose(1, 2, 0)[..., ::-1] * 255 + 0.5).astype(np.uint8))
    trimap = np.where(likely > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[likely > _SURE] = cv2.GC_FGD
    trimap[(likely < _LOST) | ~allowed] = cv2.GC_BGD
    trimap[dots > 0] = cv2.GC_FGD
    trimap[dots < 0] = cv2.GC_BGD
    if not ((trimap & 1) > 0).any() or not ((trimap & 1) == 0).any():
        return np.zeros((height, width), np.float32), 0.0
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, trimap, None, *model, _CUTS, cv2.GC_INIT_WITH_MASK)
    found = _pieces(((trimap & 1) > 0).astype(np.uint8), dots > 0)
    return found, region_similarity(found, (likely > 0.5).astype(np.float32))


def _by_features(
    rgb: Float, prompts: Prompts, dots: NDArray[np.int8], allowed: NDArray[np.bool_], encoder: Encoder
) -> Float:
    """How likely each pixel belongs to the object, as the encoder's features tell it."""
    import torch

    height, width = rgb.shape[1:]
    features = _features(rgb, encoder)
    lines, columns = features.shape[1:]
    x = torch.cat([features.flatten(1).T, torch.ones(lines * columns, 1)], 1)

    def cells(plane: NDArray[Any]) -> Tensor:
        padded = np.zeros((lines * _STRIDE, columns * _STRIDE), np.float32)
        padded[:height, :width] = plane
        return torch.from_numpy(cv2.resize(padded, (columns, lines), interpolation=cv2.INTER_AREA)).flatten()

    real = cells(np.ones((height, width))) > 0.5
    inside = cells(allowed) > 0.5
    told = cells(dots > 0) - cells(dots < 0)
    answers: list[Tensor] = []
    if prompts.on or prompts.strokes:
        answers.append(_from_points(x, cells(_distance(dots)), told, inside, real))
    if prompts.box is not None:
        answers.append(_from_box(x, prompts.box, (lines, columns), told, inside, real))
    answer = torch.stack(answers).mean(0)
    grid = answer.reshape(lines, columns).numpy()
    large = cv2.resize(grid, (columns * _STRIDE, lines * _STRIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[:height, :width], np.float32)


def _from_points(x: Tensor, far: Tensor, told: Tensor, inside: Tensor, real: Tensor) -> Tensor:
    """What is like the places that were pointed at, and not too far from them. What lies far off is taken for the surroundings,
    the more the farther: some of it is the object, and a classifier that must give all cells alike their due lets it be."""
    import torch

    label = ((told > 0) | ((far < _NEAR) & (told >= 0))).float() * inside
    doubt = (far / _APART).clamp(0.02, 1.0)
    weight = torch.where(label > 0, torch.exp(-((far / _NEAR) ** 2)), torch.where(inside, doubt, 1.0))
    weight = torch.where(told != 0, _TOLD, weight) * real
    answer = torch.sigmoid(x @ _fit_linear(x, label, weight, _POINTS_DECAY))
    return answer * torch.exp(-((far / _FADE) ** 2) / 2) * inside


def _from_box(x: Tensor, box: Box, shape: tuple[int, int], told: Tensor, inside: Tensor, real: Tensor) -> Tensor:
    """What is in the box and unlike what is outside of it: a first guess from the box's middle, then self-training."""
    import torch

    guess, trust = (torch.from_numpy(plane).flatten() for plane in _middle(box, *shape))
    label, weight = guess * inside, trust
    answer = label
    for _ in range(_ROUNDS):
        label = torch.where(told < 0, 0.0, label)
        weight = torch.where(told != 0, _TOLD, weight) * real
        sure = torch.sigmoid(x @ _fit_linear(x, label, weight, _BOX_DECAY))
        answer = sure * inside
        label = (answer > 0.5).float()
        # What it isn't sure of teaches little; what lies outside the box is known.
        weight = torch.where(inside, (2 * (sure - 0.5).abs()).clamp(0.05, 1.0), 1.0)
    return answer


def _middle(box: Box, lines: int, columns: int) -> tuple[Float, Float]:
    """Label and weight of each cell before anything was learned: all of the box, its corners hardly."""
    y, x = np.mgrid[:lines, :columns].astype(np.float32) + np.float32(0.5)
    x0, y0, x1, y1 = (v / _STRIDE for v in box)
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    out = ((2 * x - x0 - x1) / max(x1 - x0, 1e-3)) ** 2 + ((2 * y - y0 - y1) / max(y1 - y0, 1e-3)) ** 2
    weight = np.where(inside, np.clip(1.2 - out, 0.1, None), 1.0)
    return inside.astype(np.float32), weight.astype(np.float32)


def _distance(dots: NDArray[np.int8]) -> Float:
    """How far each pixel is from what was pointed at, in heights of the picture."""
    found = cv2.distanceTransform((dots <= 0).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(found / dots.shape[0], np.float32)


def _fit_linear(x: Tensor, label: Tensor, weight: Tensor, decay: float) -> Tensor:
    """Weights of a logistic regression, both classes counting alike; the last is the offset."""
    import torch
    from torch.nn import functional as F

    sides = torch.where(label > 0.5, weight / (weight * label).sum().clamp_min(1e-6), 0.0)
    sides = sides + torch.where(label > 0.5, 0.0, weight / (weight * (1 - label)).sum().clamp_min(1e-6))
    rows = sides > 0
    x, label, sides = x[rows], label[rows], sides[rows]
    theta = torch.zeros(x.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([theta], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        wrong = F.binary_cross_entropy_with_logits(x @ theta, label, reduction="none")
        total = (wrong * sides).sum() / 2 + decay * theta[:-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch declares it untyped
        return total

    solver.step(loss)  # type: ignore[no-untyped-call]  # likewise
    return theta.detach()


def _features(rgb: Float, encoder: Encoder) -> Tensor:
    """(channels, height / 4, width / 4) of a picture padded to the net's stride, each tap of unit length on the whole."""
    import torch
    from torch.nn import functional as F

    from pipeline.tasks.roto.net import STRIDE

    height, width = rgb.shape[1:]
    picture = F.pad(
        torch.from_numpy(np.ascontiguousarray(rgb))[None], (0, -width % STRIDE, 0, -height % STRIDE), "replicate"
    )
    size = (picture.shape[2] // _STRIDE, picture.shape[3] // _STRIDE)
    with torch.inference_mode():
        taps = encoder(picture)
    out = []
    for tap in [*(taps[i] for i in _TAPS), _lab(rgb, picture.shape[2:])]:
        even = (tap - tap.mean((2, 3), keepdim=True)) / (tap.std((2, 3), keepdim=True) + 1e-3)
        out.append(F.interpolate(even, size, mode="bilinear", align_corners=False) / even.shape[1] ** 0.5)
    return torch.cat(out, 1)[0].clone()


def _lab(rgb: Float, size: Any) -> Tensor:
    import torch
    from torch.nn import functional as F

    lab = cv2.cvtColor(np.ascontiguousarray(rgb.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB) / np.float32(100)
    height, width = rgb.shape[1:]
    planes = torch.from_numpy(np.ascontiguousarray(lab.transpose(2, 0, 1), np.float32))[None]
    padded = F.pad(planes, (0, size[1] - width, 0, size[0] - height), "replicate")
    return F.avg_pool2d(padded, _STRIDE)


def _encoder(start: Mapping[str, Tensor]) -> Encoder:
    from pipeline.tasks.roto.net import Encoder

    encoder = Encoder()
    own = {name.removeprefix("encoder."): t for name, t in start.items() if name.startswith("encoder.")}
    if own:
        encoder.load_state_dict(own)
    else:
        encoder.load_imagenet(start)
    return encoder.eval()


def _dots(prompts: Prompts, height: int, width: int) -> NDArray[np.int8]:
    """1 on points and strokes, −1 on points of the surroundings, else 0."""
    radius = max(1, round(_DOT * height))
    on, off = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for points, plane in ((prompts.on, on), (prompts.off, off)):
        for x, y in points:
            cv2.circle(plane, (int(x), int(y)), radius, 1, -1)
    for stroke in prompts.strokes:
        line = np.array(stroke, np.float32).round().astype(np.int32)[:, None]
        cv2.polylines(on, [line], False, 1, radius)
    return on.astype(np.int8) - off.astype(np.int8)


def _drawn(prompts: Prompts, height: int, width: int) -> Float:
    """The prompts as a picture, to show at once: dots and strokes solid, the box a haze."""
    haze = 0.3 * _allowed(prompts.box, height, width) if prompts.box else np.zeros((height, width))
    return np.asarray(np.maximum(haze, _dots(prompts, height, width) > 0), np.float32)


def _allowed(box: tuple[float, float, float, float] | None, height: int, width: int) -> NDArray[np.bool_]:
    """Where the object may be: in the box and a little around it, or anywhere."""
    if box is None:
        return np.ones((height, width), np.bool_)
    dx, dy = _MARGIN * (box[2] - box[0]), _MARGIN * (box[3] - box[1])
    out = np.zeros((height, width), np.bool_)
    top, left = max(0, int(box[1] - dy)), max(0, int(box[0] - dx))
    out[top : max(top + 1, int(box[3] + dy + 1)), left : max(left + 1, int(box[2] + dx + 1))] = True
    return out


def _pieces(solid: Bytes, pointed: NDArray[np.bool_]) -> Float:
    """Without crumbs: pieces that were pointed at, and with none of these, all that aren't small beside the largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    if count < 2:
        return solid.astype(np.float32)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = {i + 1 for i, area in enumerate(areas) if area >= _CRUMB * areas.max()}
    keep = (set(np.unique(labels[pointed]).tolist()) - {0}) or large
    return np.isin(labels, sorted(keep)).astype(np.float32)

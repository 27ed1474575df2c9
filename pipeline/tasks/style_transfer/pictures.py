"""What a look is learned from: crops of finished frames, each gone once through the autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.tasks.style_transfer.denoiser import Denoiser, Framing, Latent
from pipeline.tasks.training import FinishedShot

Float = NDArray[np.float32]

_MOST_BYTES = 256 << 20
"""Of encoded crops that are held: some two thousand of 512 × 512."""


_LEAST = 4
"""Codes along a side: less than that is no picture."""


def spread(frames: Sequence[int], count: int) -> list[int]:
    """`count` of the frames, each from the middle of an equal stretch; all, where there are no more."""
    if len(frames) <= count:
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]


def encode_shots(
    shots: Sequence[FinishedShot],
    denoiser: Denoiser,
    *,
    lines: int,
    frames_a_shot: int,
    flip: bool,
    seed: int,
    on_frame: Callable[[int, int], None],
    most_bytes: int = _MOST_BYTES,
) -> list[Latent]:
    """The crops of so many frames a shot, fewer where they would fill the memory; every shot is then cut alike.

    `on_frame(done, of)` after each frame, and may raise to stop. Raises: RunnerError (no frames, too small), PlateError.
    """
    chance = np.random.default_rng(seed)
    picked = [spread(shot.frames, frames_a_shot) for shot in shots]
    # Round by round over the shots, the frames of each in a drawn order: wherever memory ends, what is held is even.
    orders = [[int(i) for i in chance.permutation(len(frames))] for frames in picked]
    todo = [
        (shot, frames[order[turn]])
        for turn in range(max(map(len, picked), default=0))
        for shot, frames, order in zip(shots, picked, orders, strict=True)
        if turn < len(order)
    ]
    held: list[Latent] = []
    used = 0
    for done, (shot, frame) in enumerate(todo):
        for crop, framing in crops(shot, frame, lines, denoiser.factor, flip=flip):
            held.append(denoiser.encode(crop, framing))
            used += held[-1].size
        on_frame(done + 1, len(todo))
        if used >= most_bytes:
            break
    if not held:
        raise RunnerError("there are no finished frames to learn from", "name approved versions that have frames")
    return held


def crops(shot: FinishedShot, frame: int, lines: int, multiple: int, *, flip: bool) -> Iterator[tuple[Float, Framing]]:
    """As few squares as cover the frame at so many lines, evenly spaced; then the same of the mirrored frame, if `flip`.

    A frame that is higher than wide gives one crop of its whole width. Raises: RunnerError (too small), PlateError.
    """
    wanted, least = lines // multiple * multiple, _LEAST * multiple
    picture = shot.display(frame, max(wanted, least))
    height, width = picture.shape[1:]
    if not least <= wanted <= height or width < least:
        raise RunnerError(
            f"{shot.name}: frame {frame} is {width} × {height} here, too small to be seen by a model at {lines} lines",
            f"set lines to at most {height}" if min(height, width) >= least else "leave the shot out",
        )
    side = min(wanted, width // multiple * multiple)
    count = math.ceil(width / side)
    for mirrored in (False, True) if flip else (False,):
        shown = picture[:, :, ::-1] if mirrored else picture
        for left in dict.fromkeys(round(x) for x in np.linspace(0, width - side, count)):
            crop = np.ascontiguousarray(shown[:, :, left : left + side], np.float32)
            yield crop, Framing(height, width, left, (wanted, side))

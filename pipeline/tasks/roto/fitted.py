"""What a fit leaves in its folder, and how a chunk reads it: `fit.json`, `priors.npz`, and where there is a net `net.safetensors`
and `flows.npz`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.motion import FlowPair
from pipeline.tasks.roto.flow import Propagated, from_bytes

SCHEMA = "platewright.roto-fit/2"
NET = "net.safetensors"
_FACTS = "fit.json"
_PRIORS = "priors.npz"
_FLOWS = "flows.npz"
_STEPS_A_PIXEL = 16
_ZERO = 1 << 15
"""A flow of 0, as it is packed."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A shot that was learned. `height`, `width`: working resolution; `full_*`: the plate's. `quality`: object → frame → the overlap
    with the truth (J) to expect of its prior.
    `key_area`: object → smallest part of the picture that a key of it fills. `has_net`: False for flow alone."""

    objects: tuple[str, ...]
    height: int
    width: int
    full_height: int
    full_width: int
    has_net: bool
    quality: Mapping[str, Mapping[int, float]]
    key_area: Mapping[str, float]
    credit: Mapping[str, float] = field(default_factory=dict)
    """Object → how far its keys are to be believed, where they were made of prompts."""
    bfloat16: bool = False
    """Whether the net answers in bfloat16. The fit settles it for every machine that takes a chunk: no seam shows between them."""


class PriorWriter:
    """Gathers priors as they come, PNG-packed: a few kB a frame and object."""

    def __init__(self) -> None:
        self._packed: dict[str, Bytes] = {}
        self.quality: dict[str, dict[int, float]] = {}

    def add(self, number: int, name: str, frame: int, prior: Propagated, quality: float) -> None:
        """Keep object `number`'s prior of `frame` and the overlap to expect of it."""
        _, packed = cv2.imencode(".png", prior.matte, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        self._packed[_member(number, frame)] = packed
        self.quality.setdefault(name, {})[frame] = round(quality, 4)

    def save(self, folder: Path) -> None:
        """Write them all. Raises: OSError."""
        np.savez(folder / _PRIORS, **self._packed)  # type: ignore[arg-type]  # the stub takes the names for allow_pickle


def save_facts(folder: Path, fitted: Fitted) -> None:
    """Write `fit.json`. Raises: OSError."""
    (folder / _FACTS).write_text(
        json.dumps({"schema": SCHEMA} | asdict(fitted), indent=1, sort_keys=True), encoding="utf-8"
    )


def load_facts(folder: Path) -> Fitted:
    """Read `fit.json`. Raises: RunnerError (the fit didn't finish, or another version wrote it)."""
    try:
        data = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunnerError(f"{folder} holds no finished roto fit", "run the fit step again") from error
    if data.pop("schema", None) != SCHEMA:
        raise RunnerError(f"{folder} holds a roto fit of another version", "run the fit step again")
    quality = {name: {int(f): float(q) for f, q in frames.items()} for name, frames in data.pop("quality").items()}
    return Fitted(objects=tuple(data.pop("objects")), quality=quality, **data)


def load_priors(folder: Path, objects: Sequence[str], frames: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Frame → (objects, height, width) 0 … 1. Raises: RunnerError (a prior is missing)."""
    found: dict[int, NDArray[np.float32]] = {}
    try:
        with np.load(folder / _PRIORS) as packed:
            for frame in frames:
                found[frame] = np.stack([_unpack(packed[_member(i, frame)]) for i in range(len(objects))])
    except (OSError, KeyError, ValueError) as error:
        raise RunnerError(f"the roto fit in {folder} lacks the prior of a frame", "run the fit step again") from error
    return found


def save_flows(folder: Path, flows: Mapping[int, FlowPair]) -> None:
    """Write the flow between a frame and the next, both ways: at half its size and in sixteenths of a pixel, about 50 kB a frame
    of 480 lines. Raises: OSError."""
    packed: dict[str, Bytes] = {}
    for frame, pair in flows.items():
        both = np.concatenate([pair.forward, pair.backward], axis=2, dtype=np.float32)
        height, width = both.shape[:2]
        small = cv2.resize(both, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        steps = np.clip(np.rint(small * _STEPS_A_PIXEL) + _ZERO, 0, 2 * _ZERO - 1).astype(np.uint16)
        _, packed[str(frame)] = cv2.imencode(".png", steps, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    np.savez(folder / _FLOWS, **packed)  # type: ignore[arg-type]  # the stub takes the names for allow_pickle


def load_flows(folder: Path, frames: Sequence[int], shape: tuple[int, int]) -> dict[int, FlowPair]:
    """Those of `frames` that have a next one in the same shot → the flow to it, at half of `shape`, the working resolution.

    Raises: RunnerError (the file is missing or damaged).
    """
    size = ((shape[1] + 1) // 2, (shape[0] + 1) // 2)
    found: dict[int, FlowPair] = {}
    try:
        with np.load(folder / _FLOWS) as packed:
            for frame in frames:
                if str(frame) in packed:
                    steps = _decoded(packed[str(frame)], cv2.IMREAD_UNCHANGED).astype(np.float32)
                    both = cv2.resize((steps - _ZERO) / _STEPS_A_PIXEL, size, interpolation=cv2.INTER_LINEAR)
                    half = both.astype(np.float16)
                    found[frame] = FlowPair(half[..., :2], half[..., 2:])
    except (OSError, ValueError) as error:
        raise RunnerError(f"the roto fit in {folder} lacks its flows", "run the fit step again") from error
    return found


def _member(number: int, frame: int) -> str:
    return f"{number}_{frame}"


def _unpack(packed: Bytes) -> NDArray[np.float32]:
    return from_bytes(np.asarray(_decoded(packed, cv2.IMREAD_GRAYSCALE), np.uint8))


def _decoded(packed: Bytes, form: int) -> NDArray[np.integer]:
    picture = cv2.imdecode(packed, form)
    if picture is None:
        raise ValueError("damaged PNG")
    return np.asarray(picture)

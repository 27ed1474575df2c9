"""What a fit leaves in its folder: `fit.json`, and `motion.zip` with the flows, the ways into the keys and the keys' own plates.

Offsets are kept as PNG of 16 bits, in 1/32 pixel: a twentieth of the bytes of floats, and nothing that could hold code.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.motion import FlowPair
from pipeline.tasks.style_transfer.carry import Carried

SCHEMA = "platewright.style-fit/1"
_FACTS = "fit.json"
_MOTION = "motion.zip"
_STEP = 32.0
_MIDDLE = 1 << 15
_AGAIN = "run the fit step again"

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A shot that was learned. `height`, `width`: working resolution. `keys`: frame of each key → the object that was painted, "" for
    one that was made of the mood board. `ways`: frame → frames of the keys that reach it. `breaks`: first frames behind a cut or a gap."""

    height: int
    width: int
    keys: Mapping[int, str]
    ways: Mapping[int, tuple[int, ...]]
    breaks: tuple[int, ...]


def save_facts(folder: Path, fitted: Fitted) -> None:
    """Write `fit.json`, the last thing a fit does. Raises: OSError."""
    (folder / _FACTS).write_text(
        json.dumps({"schema": SCHEMA} | asdict(fitted), indent=1, sort_keys=True), encoding="utf-8"
    )


def load_facts(folder: Path) -> Fitted:
    """Read `fit.json`. Raises: RunnerError (the fit didn't finish, or another version wrote it)."""
    try:
        data = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunnerError(f"{folder} holds no finished style fit", _AGAIN) from error
    if data.pop("schema", None) != SCHEMA:
        raise RunnerError(f"{folder} holds a style fit of another version", _AGAIN)
    return Fitted(
        height=data["height"],
        width=data["width"],
        keys={int(frame): name for frame, name in data["keys"].items()},
        ways={int(frame): tuple(keys) for frame, keys in data["ways"].items()},
        breaks=tuple(data["breaks"]),
    )


class MotionWriter:
    """Writes `motion.zip` as things are found."""

    def __init__(self, folder: Path) -> None:
        """Raises: OSError."""
        self._zip = zipfile.ZipFile(folder / _MOTION, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def flow(self, frame: int, pair: FlowPair) -> None:
        """Between a frame and the next."""
        self._put(f"flow/{frame}/forward", _fixed(pair.forward.astype(np.float32)))
        self._put(f"flow/{frame}/backward", _fixed(pair.backward.astype(np.float32)))

    def way(self, frame: int, key: int, carried: Carried) -> None:
        """From a frame to a key."""
        self._put(f"way/{frame}/{key}", _fixed(carried.offset))
        self._put(f"sure/{frame}/{key}", np.asarray(np.clip(carried.confidence * 255 + 0.5, 0, 255), np.uint8))

    def plate(self, key: int, rgb: Float) -> None:
        """A key frame's plate, (height, width, 3) in model space at working resolution; what lies outside 0 … 1 is cut off."""
        self._put(f"plate/{key}", np.asarray(np.clip(rgb, 0, 1) * 255 + 0.5, np.uint8))

    def painting(self, key: int, rgb: Float) -> None:
        """A painting made of the mood board, (height, width, 3) in model space at full size."""
        self._put(f"painting/{key}", np.asarray(np.clip(rgb, 0, 1) * 65535 + 0.5, np.uint16))

    def _put(self, name: str, array: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        _, packed = cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        self._zip.writestr(zipfile.ZipInfo(f"{name}.png"), packed.tobytes())


class MotionReader:
    """Reads `motion.zip`. Every method raises RunnerError when what is asked for isn't there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._zip = zipfile.ZipFile(folder / _MOTION)
        except (OSError, zipfile.BadZipFile) as error:
            raise RunnerError(f"the style fit in {folder} lacks its motion", _AGAIN) from error

    def close(self) -> None:
        """Give the file back."""
        self._zip.close()

    def flow(self, frame: int) -> FlowPair:
        """Between a frame and the next."""
        forward, backward = (_floats(self._get(f"flow/{frame}/{way}")) for way in ("forward", "backward"))
        return FlowPair(forward.astype(np.float16), backward.astype(np.float16))

    def way(self, frame: int, key: int) -> Carried:
        """From a frame to a key."""
        sure = self._get(f"sure/{frame}/{key}").astype(np.float32) * np.float32(1 / 255)
        return Carried(_floats(self._get(f"way/{frame}/{key}")), sure)

    def plate(self, key: int) -> Float:
        """A key frame's plate at working resolution."""
        return np.multiply(self._get(f"plate/{key}"), np.float32(1 / 255), dtype=np.float32)

    def painting(self, key: int) -> Float:
        """A painting made of the mood board."""
        return np.multiply(self._get(f"painting/{key}"), np.float32(1 / 65535), dtype=np.float32)

    def _get(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
        try:
            packed = np.frombuffer(self._zip.read(f"{name}.png"), np.uint8)
            found = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED)
        except (OSError, KeyError, zipfile.BadZipFile, cv2.error) as error:
            raise RunnerError(f"the style fit in {self._folder} lacks {name}", _AGAIN) from error
        if found is None:
            raise RunnerError(f"{name} of the style fit in {self._folder} is damaged", _AGAIN)
        return np.asarray(found)


def _fixed(offset: Float) -> NDArray[np.uint16]:
    """(height, width, 2) as one plane under the other."""
    held = np.clip(np.rint(offset * np.float32(_STEP)) + _MIDDLE, 0, 65535).astype(np.uint16)
    return np.ascontiguousarray(np.concatenate([held[..., 0], held[..., 1]]))


def _floats(held: NDArray[np.uint8] | NDArray[np.uint16]) -> Float:
    planes = (held.astype(np.float32) - np.float32(_MIDDLE)) * np.float32(1 / _STEP)
    half = planes.shape[0] // 2
    return np.ascontiguousarray(np.dstack([planes[:half], planes[half:]]))

"""Frames for the tests of frame I/O: small, awkward, and made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.media.exr import Frame, Part
from pipeline.media.exr_header import Attribute, timecode_attribute
from pipeline.plate import Window

HEADER: Mapping[str, Any] = {
    "owner": "A studio, née Küche",
    "framesPerSecond": Fraction(24000, 1001),
    "timeCode": timecode_attribute("01:02:03:04"),
    "keyCode": Attribute("keycode", struct.pack("<7i", 1, 2, 3, 4, 5, 6, 64)),
    "chromaticities": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "colorInteropID": "lin_ap1_scene",
    "nuke/node_hash": "a1b2c3",
    "nuke/input/frame_rate": "23.976",
    "multiView": ["right", "left"],
    "expTime": 0.625,
    "isoSpeed": 100,
    "capDate": "2026:01:02 03:04:05",
    "adoptedNeutral": (0.32168, 0.33767),
    "a/key/with/a/name/much/longer/than/thirty/one/bytes": "kept",
    "cryptomatte/1234567/manifest": '{"hero":"3f2504e0"}',
    "studioThing": Attribute("studioType", b"\x00\xffanything"),
    "worldToCamera": tuple(float(i) for i in range(16)),
}


def rounded(header: Mapping[str, Any]) -> dict[str, Any]:
    """What is read back: floats pass through float32, and the attributes that every EXR has are there."""
    required = {"pixelAspectRatio": 1.0, "screenWindowCenter": (0.0, 0.0), "screenWindowWidth": 1.0}

    def f32(value: Any) -> Any:
        if isinstance(value, float):
            return float(np.float32(value))
        return tuple(f32(v) for v in value) if isinstance(value, tuple) else value

    return {**required, **{name: f32(value) for name, value in header.items()}}


def awkward_half(height: int, width: int, seed: int = 0) -> NDArray[np.float16]:
    """Any half at all: HDR, negatives, denormals, signed zeros, infinities, NaN with payloads."""
    bits = np.random.default_rng(seed).integers(0, 1 << 16, (height, width), dtype=np.uint16)
    return bits.view(np.float16)


def awkward_float(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Any float32 at all."""
    bits = np.random.default_rng(seed).integers(0, 1 << 32, (height, width), dtype=np.uint32)
    return bits.view(np.float32)


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.float16]:
    """A smooth picture with grain, highlights and negatives: what compresses as plates do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    clean = (
        0.4 + 0.4 * np.sin(x / 17 + seed) * np.cos(y / 11) + 8.0 * ((x - width / 2) ** 2 + (y - height / 2) ** 2 < 20)
    )
    return (clean + rng.normal(0, 0.02, clean.shape)).astype(np.float16)


def rgb_frame(height: int = 40, width: int = 60, *, header: Mapping[str, Any] | None = None, seed: int = 0) -> Frame:
    """An RGB half frame at the origin."""
    window = Window.of_size(width, height)
    channels = {name: photo(height, width, seed + i) for i, name in enumerate("RGB")}
    return Frame((Part("", dict(header or {}), channels, window, window),))


def same_pixels(a: Frame, b: Frame) -> bool:
    """Whether two frames hold the same parts, windows, channels, types and bits."""
    if len(a.parts) != len(b.parts):
        return False
    for one, other in zip(a.parts, b.parts, strict=True):
        if (one.data_window, one.display_window) != (other.data_window, other.display_window):
            return False
        if set(one.channels) != set(other.channels):
            return False
        for name, plane in one.channels.items():
            if plane.dtype != other.channels[name].dtype or plane.tobytes() != other.channels[name].tobytes():
                return False
    return True

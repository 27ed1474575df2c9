"""Scene-linear ↔ model space: invertible curves, and the picture that a model is shown.

Every curve works on float32 arrays of any shape, clips nothing and keeps negatives, so that what a model leaves alone
comes back as the very same half. Over all 63,488 finite half values, half → float32 → curve → inverse → half:

- `HybridCurve`: every value, bit for bit (IEC 61966-2-1 up to a knee, then a log shoulder).
- `ACEScct` (Academy S-2016-001) and `LogC4` (ARRI LogC4 Logarithmic Color Space Specification, 2022): every value, bit
  for bit but for the sign of −0, which is lost because both curves put 0 above 0.

Only a cast to bfloat16 or float16 inside a model loses anything; that cast belongs to the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_BLOCK = 1 << 16
"""Values worked on at once: the several passes over 256 KB stay in a core's own cache."""


class Curve(ABC):
    """A curve between scene-linear and model space, the same for every channel.

    Both directions return a new array unless `out` is given; `out` may be the input itself.
    """

    def forward(self, array: Array, *, out: Array | None = None) -> Array:
        """Scene-linear to model space, float32, any shape."""
        return _in_blocks(self._encode, array, out)

    def inverse(self, array: Array, *, out: Array | None = None) -> Array:
        """Model space to scene-linear, float32, any shape."""
        return _in_blocks(self._decode, array, out)

    @abstractmethod
    def _encode(self, x: Array, y: Array) -> None:
        """Encode the flat block `x` into `y`, which may be the same memory."""

    @abstractmethod
    def _decode(self, y: Array, x: Array) -> None:
        """Decode the flat block `y` into `x`, which may be the same memory."""


def _in_blocks(step: Callable[[Array, Array], None], array: Array, out: Array | None) -> Array:
    source = np.ascontiguousarray(array, np.float32)
    result = np.empty_like(source) if out is None or not out.flags.c_contiguous else out
    flat_in, flat_out = source.reshape(-1), result.reshape(-1)
    # A value that a model threw far out may overflow on its way back; it becomes inf, which the publish refuses.
    with np.errstate(over="ignore"):
        for start in range(0, flat_in.size, _BLOCK):
            step(flat_in[start : start + _BLOCK], flat_out[start : start + _BLOCK])
    if out is not None and result is not out:
        out[...] = result
        return out
    return result


_SRGB_BREAK = 0.0031308
_SRGB_SLOPE = 12.92


class HybridCurve(Curve):
    """sRGB up to a knee, then a log shoulder that puts `peak` at 1.0: what nets trained on 8-bit pictures know, for HDR.

    With x = |value|, k = knee, p = peak and the sign put back at the end (odd symmetry):

        y = sRGB(x)                           x ≤ k     (IEC 61966-2-1: 12.92 x, then 1.055 x^(1/2.4) − 0.055)
        y = sRGB(k) + g ln(1 + (x − k) / w)   x > k     g = w sRGB′(k), so the slope is continuous

    w is the width for which y(p) = 1. A plate whose peak is at most 1 has nothing to compress: its knee is 1, so that
    it is sRGB exactly, and w = 1 for whatever another frame may hold above. Values past the peak pass 1.0 unclamped.

    Raises: ValueError (a peak that isn't a positive number, a knee outside the power part of sRGB below 1).
    """

    def __init__(self, peak: float, knee: float = 0.5) -> None:
        if not (math.isfinite(peak) and peak > 0):
            raise ValueError(f"a plate's peak is a positive number, not {peak}")
        if not _SRGB_BREAK < knee < 1:
            raise ValueError(f"the knee {knee} lies outside {_SRGB_BREAK} to 1")
        self.peak = peak
        self.knee = knee if peak > 1 else 1.0
        self._y_knee = 1.055 * self.knee ** (1 / 2.4) - 0.055
        slope = 1.055 / 2.4 * self.knee ** (1 / 2.4 - 1)
        self._w = _shoulder_width(peak - self.knee, 1 - self._y_knee, slope) if peak > 1 else 1.0
        self._g = slope * self._w

    def _encode(self, x: Array, y: Array) -> None:
        # The two parts are added, each held at the knee: picking values out by a mask costs more than a logarithm.
        a = np.abs(x)
        encoded = np.minimum(a, self.knee)
        np.power(encoded, 1 / 2.4, out=encoded)
        encoded *= 1.055
        encoded -= 0.055
        np.multiply(a, _SRGB_SLOPE, out=encoded, where=a <= _SRGB_BREAK)
        a -= self.knee
        if not a.max() <= 0:  # true of NaN too: it must not hide the highlights beside it
            np.maximum(a, 0, out=a)
            a *= 1 / self._w
            np.log1p(a, out=a)
            a *= self._g
            encoded += a
        np.copysign(encoded, x, out=y)

    def _decode(self, y: Array, x: Array) -> None:
        a = np.abs(y)
        decoded = np.minimum(a, self._y_knee)
        decoded += 0.055
        decoded *= 1 / 1.055
        np.power(decoded, 2.4, out=decoded)
        np.multiply(a, 1 / _SRGB_SLOPE, out=decoded, where=a <= _SRGB_SLOPE * _SRGB_BREAK)
        a -= self._y_knee
        if not a.max() <= 0:  # true of NaN too: it must not hide the highlights beside it
            np.maximum(a, 0, out=a)
            a *= 1 / self._g
            np.expm1(a, out=a)
            a *= self._w
            decoded += a
        np.copysign(decoded, y, out=x)


def _shoulder_width(reach: float, rise: float, slope: float) -> float:
    """The w with slope·w·ln(1 + reach/w) = rise, by bisection on log w.

    The left side grows with w from 0 to slope·reach; sRGB is concave, so its tangent at the knee passes 1 before the
    peak does and slope·reach > rise: there always is one.
    """
    low, high = 1e-12, 1e12
    for _ in range(200):
        w = math.sqrt(low * high)
        if slope * w * math.log1p(reach / w) > rise:
            high = w
        else:
            low = w
    return math.sqrt(low * high)


SHOT_CURVE = HybridCurve(peak=1.0)
"""Model space of every shot: sRGB up to 1, a log shoulder above; the same on every frame, in fit and chunk."""


class ACEScct(Curve):
    """ACEScct as in Academy S-2016-001, section 4.4; the linear toe runs on below zero. No gamut change.

    y = 10.5402377416545 x + 0.0729055341958355 for x ≤ 2⁻⁷, else (log₂ x + 9.72) / 17.52.
    """

    _A, _B, _BREAK = 10.5402377416545, 0.0729055341958355, 0.0078125

    def _encode(self, x: Array, y: Array) -> None:
        toe = x <= self._BREAK
        line = x * self._A
        line += self._B
        log = np.log2(np.maximum(x, self._BREAK))
        log += 9.72
        log *= 1 / 17.52
        np.copyto(y, np.where(toe, line, log))

    def _decode(self, y: Array, x: Array) -> None:
        toe = y <= self._A * self._BREAK + self._B
        line = y - self._B
        line *= 1 / self._A
        power = y * 17.52
        power -= 9.72
        np.exp2(power, out=power)
        np.copyto(x, np.where(toe, line, power))


class LogC4(Curve):
    """ARRI LogC4, in the specification's notation (E scene-linear, E′ encoded). No gamut change.

    E′ = ((log₂(a E + 64) − 6) / 14) b + c for E ≥ t, else (E − t) / s.
    """

    _a = (2**18 - 16) / 117.45
    _b = (1023 - 95) / 1023
    _c = 95 / 1023
    _s = (7 * math.log(2) * 2 ** (7 - 14 * _c / _b)) / (_a * _b)
    _t = (2 ** (14 * (-_c / _b) + 6) - 64) / _a

    def _encode(self, x: Array, y: Array) -> None:
        toe = x < self._t
        line = x - self._t
        line *= 1 / self._s
        log = np.maximum(x, self._t)
        log *= self._a
        log += 64
        np.log2(log, out=log)
        log -= 6
        log *= self._b / 14
        log += self._c
        np.copyto(y, np.where(toe, line, log))

    def _decode(self, y: Array, x: Array) -> None:
        toe = y < 0
        line = y * self._s
        line += self._t
        power = y - self._c
        power *= 14 / self._b
        power += 6
        np.exp2(power, out=power)
        power -= 64
        power *= 1 / self._a
        np.copyto(x, np.where(toe, line, power))


def to_display(rgb: Array, curve: Curve, height: int) -> Array:
    """The picture that a model is shown: (3, H, W) scene-linear to (3, h, w) in model space, at most `height` lines.

    The curve comes first, then the scaling by area. In scene-linear one sky pixel at 50 outweighs the hair over it, so
    an edge against a highlight would creep into the subject; encoded, a half-covered pixel stays half way between the
    two, which is what a matte measures and what nets saw in training. (Review proxies are scaled in scene-linear: there
    the light is what counts.) Aspect is kept; pictures are never enlarged; the input is left as it is.
    """
    encoded = curve.forward(rgb)
    _, full_height, full_width = encoded.shape
    if height >= full_height:
        return encoded
    width = max(1, round(full_width * height / full_height))
    scaled = np.empty((3, height, width), np.float32)
    for plane, small in zip(encoded, scaled, strict=True):
        cv2.resize(plane, (width, height), dst=small, interpolation=cv2.INTER_AREA)
    return scaled

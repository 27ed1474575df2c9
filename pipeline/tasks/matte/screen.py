"""Green and blue screens: a colour-difference key (Vlahos's patents; Smith & Blinn 1996) in scene-linear, and what it can't do made good.

With p the screen's strongest channel and o the others, d(I) = I_p − max(I_o) is 0 or less for whites, skin and most else, and grows with
the screen's share: α = 1 − d(I) / d(B). B is the screen itself at each pixel, from a clean plate or from the plate around, so that uneven
light does no harm. The key is a first guess; the pixels it is unsure of are then solved like any other soft edge, with colours of both
sides as witnesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.matte.prior import Prior

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

Color = tuple[float, float, float]

_HUE = 0.15
"""A screen pixel differs from a multiple of the screen's colour by at most this part of its own length."""
_DARKEST, _BRIGHTEST = 0.3, 3.0
"""And is this much darker or brighter than the colour given."""
_LEAST_SATURATION = 0.15
"""d(colour) of the colour's strongest channel: below it nothing tells a screen from a grey wall."""
_CLEAR, _SOLID = 0.04, 0.985
"""A key below and above these is sure, mean of 3 × 3: a single grain is none. Where the screen is noisier than that, more is clear."""
_DEEP = 0.025
"""So far from everything that is more screen than subject, of the picture's height, a key above `_DEEP_KEY` is the subject's own colour."""
_DEEP_KEY = 0.5
_GROW_PX = 3
_VARIANCE = 0.1
"""Of the key on an unsure pixel."""
_AROUND = 0.04
"""The screen's light is even over this part of the picture's height."""
_SAMPLE_PX = 12.0


@dataclass(frozen=True, slots=True)
class Key:
    """`alpha` (height, width) 0 … 1, of the colour difference alone; `ground` (height, width, 3), the screen as it would be without a
    subject; `screen` (height, width), the pixels that are surely it."""

    alpha: Float
    ground: Float
    screen: Bools


def saturation(colour: Color) -> float:
    """How far the strongest channel rises above the next, of itself, 0 … 1; less than `_LEAST_SATURATION` is no screen's colour."""
    low, high = sorted(colour)[1:]
    return (high - low) / high if high > 0 else 0.0


def usable(colour: Color) -> bool:
    """Whether a screen of that colour can be keyed."""
    return saturation(colour) >= _LEAST_SATURATION


def screen_pixels(rgb: Float, colour: Color) -> Bools:
    """Where the picture, (height, width, 3), shows the screen's colour, lighter or darker, and nothing else."""
    wanted = np.asarray(colour, np.float32)
    length = float(np.dot(wanted, wanted))
    share = rgb @ (wanted / length)
    off = np.square(rgb - share[..., None] * wanted).sum(-1)
    own = np.square(rgb).sum(-1)
    return np.asarray((share > _DARKEST) & (share < _BRIGHTEST) & (off < _HUE**2 * own))


def screen_share(rgb: Float, colour: Color) -> float:
    """Part of the picture that shows the screen, 0 … 1."""
    return float(screen_pixels(rgb, colour).mean())


def key(rgb: Float, colour: Color, clean: Float | None = None) -> Key:
    """Key `rgb` (height, width, 3) by the screen's `colour`; `clean`: the same view without the subject, the same shape."""
    primary = int(np.argmax(colour))
    screen = screen_pixels(rgb, colour)
    ground = clean if clean is not None else _ground(rgb, screen, colour)
    strength = _difference(ground, primary)
    least = 0.1 * saturation(colour) * max(colour)
    share = _difference(rgb, primary) / np.maximum(strength, np.float32(least))
    return Key(np.clip(1 - share, 0, 1).astype(np.float32), ground, screen)


def prior_of(found: Key, core: Bools | None = None, garbage: Bools | None = None, hair: Bools | None = None) -> Prior:
    """What the key is sure of and what is to be solved. `core`: surely subject, whatever its colour; `garbage`: surely not; `hair`: to be
    solved, whatever the key says."""
    alpha = found.alpha
    smooth = np.asarray(cv2.blur(alpha, (3, 3)), np.float32)
    noise = 3 * float(smooth[found.screen].std()) if found.screen.any() else 0.0
    back = smooth < min(max(_CLEAR, noise), 0.15)
    fore = (smooth > _SOLID) & ~found.screen
    thin = (smooth < _DEEP_KEY).astype(np.uint8)
    if thin.any():
        deep = max(6.0, _DEEP * alpha.shape[0])
        fore |= cv2.distanceTransform(1 - thin, cv2.DIST_L2, 5) > deep
    if core is not None:
        fore, back = fore | core, back & ~core
    if garbage is not None:
        fore, back = fore & ~garbage, back | garbage
    side = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _GROW_PX + 1, 2 * _GROW_PX + 1))
    soft = (~(fore | back)).astype(np.uint8)
    # Grain makes single doubtful pixels; an edge is more than that.
    edge = (fore.astype(np.uint8) & cv2.dilate(back.astype(np.uint8), side)) | cv2.medianBlur(soft, 3)
    unknown = cv2.dilate(edge, side) > 0
    if core is not None:
        unknown &= ~core
    if garbage is not None:
        unknown &= ~garbage
    if hair is not None:
        unknown |= hair
    solid = (alpha > 0.5).astype(np.float32)
    if core is not None:
        solid[core] = 1
    if garbage is not None:
        solid[garbage] = 0
    variance = np.full(alpha.shape, _VARIANCE, np.float32)
    return Prior(solid, unknown, alpha, variance, fore & ~unknown, back & ~unknown, _SAMPLE_PX)


def despill(foreground: Float, colour: Color, strength: float) -> Float:
    """(height, width, 3): the screen's channel held down to the strongest other by `strength`, 0 … 1; the rest untouched, bit for bit."""
    if strength <= 0:
        return foreground
    primary = int(np.argmax(colour))
    over = _difference(foreground, primary)
    spilled = over > 0
    if not spilled.any():
        return foreground
    clean = foreground.copy()
    clean[..., primary][spilled] -= np.float32(strength) * over[spilled]
    return clean


def _difference(rgb: Float, primary: int) -> Float:
    others = [c for c in range(3) if c != primary]
    return np.asarray(rgb[..., primary] - np.maximum(rgb[..., others[0]], rgb[..., others[1]]), np.float32)


def _ground(rgb: Float, screen: Bools, colour: Color) -> Float:
    """The screen behind the subject: what is seen of it, carried in from around."""
    height, width = screen.shape
    step = max(1, height // 270)
    size = (-(-width // step), -(-height // step))
    # Pixels beside others are mixed already: only the screen's own middle speaks for it.
    inner = cv2.erode(screen.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    share = cv2.resize(inner, size, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(rgb * inner[..., None], size, interpolation=cv2.INTER_AREA)
    total, light = np.zeros_like(share), np.zeros_like(seen)
    for wider, weight in ((1.0, 1.0), (4.0, 1e-2), (16.0, 1e-4)):
        sigma = max(1.0, _AROUND * size[1] * wider)
        total += np.float32(weight) * cv2.GaussianBlur(share, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        light += np.float32(weight) * cv2.GaussianBlur(seen, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    given = np.asarray(colour, np.float32)
    small = (light + np.float32(1e-8) * given) / (total + np.float32(1e-8))[..., None]
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

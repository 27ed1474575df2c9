"""The demo's shot: an astronaut walks past a launch pad at dusk. Any frame of it, made from its number alone.

Both pictures are photographs inside scikit-image's wheel. No masks ship with them, so her outline is drawn here as
splines, and the alpha of every frame follows from it. Three planes of coordinates: the photograph's pixels (centres at
.5), the design's (960x540, in which the motion is laid out), and the picture's.

The plate obeys the compositing equation (Porter and Duff, "Compositing digital images", SIGGRAPH 1984):
plate = F + (1 - A) B + grain, with F (premultiplied), A and B each integrated over the shutter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from skimage.data import data_dir
from skimage.io import imread
from skimage.measure import points_in_poly

from pipeline.errors import ParameterError

Image = npt.NDArray[np.float32]

SHUTTER = 0.5  # of a frame: the usual 180 degrees
SUBFRAMES = 8
DESIGN_WIDTH, DESIGN_HEIGHT = 960, 540
"""Motion is designed in pixels of this size; other sizes are covered by the same picture, cropped at the centre."""

# The astronaut's outline in the photograph's pixels, clockwise from the lower left, as splines that meet at corners.
# Each is the half-width of its soft edge in pixels (hair is softer than the collar ring) and its knots "x,y x,y …".
_OUTLINE: tuple[tuple[float, str], ...] = (
    (  # her right sleeve, up to the shoulder
        1.0,
        "56,556 48,528 37.5,505 31,492 26,477 23.7,460 23.5,450 23,430 21,415 20,399 23,387 25,375 26,350 "
        "26.5,337.5 29.5,328 34.5,312 39.5,297.5 43.5,281 48,271 54.5,261.5 68,243.7 76,235.5 87,228 96,221.5 "
        "106,213 112.5,207",
    ),
    (  # the collar's clip, and its ring as far as the jaw
        0.8,
        "112.5,207 113.8,200 115.5,190 119.5,183 125,178 134.5,165.5 148,153 162,150 173,149.6 183.5,149.8",
    ),
    (0.9, "183.5,149.8 183,143 182.3,136 180.5,131.5"),  # jaw
    (0.9, "180.5,131.5 177.5,130 174.5,126 171,121 167.5,116.5"),  # ear
    (  # hair
        2.2,
        "167.5,116.5 163.5,112 160,105 157,95 155.2,83 155.5,70 158,61 163.5,54 172,48.5 182,43.5 188,36 194,29.5 "
        "202,24.5 211,20.8 222,18 234,17 246,18 257.5,21.5 269,28 279,36 287,44 292.5,53 297,64 299.6,76 300,85 "
        "299.5,95 297,104 292.5,112 287,121 281,128.5",
    ),
    (0.9, "281,128.5 275,133.5 269.3,136.8"),  # ear
    (0.9, "269.3,136.8 266.3,142 263.5,152 259.5,161.5 256.6,169 255.6,173.8"),  # jaw and neck
    (0.8, "255.6,173.8 266,180.3 278,189.4 287.5,199 294,208.3 299,218 302.2,227 304,233.5"),  # the ring's other side
    (  # her left shoulder and sleeve
        1.0,
        "304,233.5 311,239.9 318,243 326,248.4 334,255.6 340.5,265 345.5,275 348.4,283 351,292 354.6,306 357,317 "
        "358.8,328 360,340 360.3,349.6",
    ),
    (  # the helmet on her arm
        0.8,
        "360.3,349.6 366,349.2 373,347.2 380,345.4 390,344 405,343.8 416,345.6 430,349.8 442,354.6 455,362.2 "
        "466,371.6 475.4,382.2 482.6,392 487.6,401.4 491.2,412 494,426 495.6,440 496.4,450.5",
    ),
    (0.8, "496.4,450.5 500,453.5 503.5,455.5 503.8,459 501,463"),  # its latch
    (0.8, "501,463 503.8,466 506,472 507,484 507.5,500 508,520 508,556"),  # and its side, out of the picture
)
_SPECULARS = ((359.0, 441.0, 26.0, 30.0, 7.0), (384.0, 366.5, 26.0, 10.0, 4.0), (166.0, 490.0, 12.0, 12.0, 2.5))
"""Reflections of the studio's lamps, clipped in the photograph: x, y, radii, and how much brighter they truly were."""


@dataclass(frozen=True, slots=True)
class Composite:
    """One frame and what it is made of: scene-linear Rec.709, (height, width, 3) float32; alpha (height, width), 0 to 1."""

    foreground: Image
    """Premultiplied."""
    alpha: Image
    background: Image
    grain: Image

    @property
    def plate(self) -> Image:
        """The compositing equation, plus grain."""
        return self.foreground + (1.0 - self.alpha[..., None]) * self.background + self.grain


def _smoothstep(low: float, high: float, x: Image) -> Image:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def _linear(srgb: Image) -> Image:
    """sRGB's display curve undone (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def _richer(rgb: Image, saturation: float) -> Image:
    """More saturated around Rec.709 luma: a cinema camera's colours lie outside Rec.709, so some values turn negative."""
    luma = rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return (luma[..., None] + saturation * (rgb - luma[..., None])).astype(np.float32)


def _outline() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The outline as a dense closed polygon (n, 2) in photograph pixels, and the soft half-width at each of its points."""
    points, widths = [], []
    for width, knots in _OUTLINE:
        p = np.array([knot.split(",") for knot in knots.split()], float)
        s = np.concatenate([[0.0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(p, axis=0), axis=1)))])  # centripetal
        dense = CubicSpline(s, p)(np.linspace(0.0, s[-1], 40 * len(p)))
        points.append(dense)
        widths.append(np.full(len(dense), width))
    soft = np.concatenate(widths)
    kernel = np.hanning(43)
    soft = np.convolve(np.pad(soft, 21, mode="edge"), kernel / kernel.sum(), mode="valid")
    return np.concatenate(points), soft


class Subject:
    """The astronaut as a premultiplied RGBA texture, `density` texels per pixel of the photograph."""

    SIZE = 548
    """Of the square of the photograph's plane that the texture covers: the photograph's 512 and some room below."""
    _ANCHOR = (256.0, 490.0)
    """The point of the photograph that travels along the path."""
    _NECK = (222.0, 185.0)
    _HEAD = (226.0, 88.0)
    _HELMET = (412.0, 430.0)

    def __init__(self, scale: float) -> None:
        photo = imread(Path(data_dir) / "astronaut.png").astype(np.float32) / 255.0
        build = max(1.0, scale)
        side = round(self.SIZE * build)
        axis = ((np.arange(side) + 0.5) / build).astype(np.float32)  # pixel centres lie at .5
        x, y = np.meshgrid(axis, axis)
        distance, width = self._signed_distance(x, y)
        alpha = _smoothstep(
            -1.0, 1.0, (distance + self._strands(x.shape, build) * 0.7 * (width - 1.0).clip(0.0)) / width
        )

        light = self._relight(photo)
        rows = np.clip(y - 0.5, 0, photo.shape[0] - 1).astype(np.float32)
        columns = np.clip(x - 0.5, 0, photo.shape[1] - 1).astype(np.float32)
        colour = cv2.remap(light, columns, rows, cv2.INTER_CUBIC if build > 1 else cv2.INTER_LINEAR)
        colour = self._without_spill(colour, distance, width)
        texture = np.dstack([colour * alpha[..., None], alpha]).astype(np.float32)
        if scale < 1.0:
            side = max(8, round(self.SIZE * scale))
            texture = cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA)
        self.texture: Image = texture
        self.density = side / self.SIZE

    @staticmethod
    def _signed_distance(x: Image, y: Image) -> tuple[Image, Image]:
        """Distance to the outline in photograph pixels, positive inside, and the nearest point's soft half-width."""
        points, soft = _outline()
        texels = np.stack([x.ravel(), y.ravel()], axis=1)
        distance, nearest = cKDTree(points).query(texels, distance_upper_bound=8.0)
        near = np.isfinite(distance)
        width = np.where(near, soft[np.where(near, nearest, 0)], 1.0)
        per_pixel = x.shape[1] / (x[0, -1] + x[0, 0])
        mask = np.zeros(x.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(points * per_pixel - 0.5).astype(np.int32)], 1)
        inside = mask.ravel() == 1
        edge = distance < 2.0  # whole pixels decide away from the line, the exact test beside it
        inside[edge] = points_in_poly(texels[edge], points)
        signed = np.where(inside, 1.0, -1.0) * np.where(near, distance, 8.0)
        return signed.reshape(x.shape).astype(np.float32), width.reshape(x.shape).astype(np.float32)

    @staticmethod
    def _strands(shape: tuple[int, int], build: float) -> Image:
        """Small irregularities (deviation 1) that break up the edge of the hair; a fixed pattern, part of the subject."""
        noise = np.random.default_rng(1967).standard_normal((shape[0], shape[1]), np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), 0.9 * build, sigmaY=1.4 * build)
        return np.asarray(noise / noise.std(), np.float32)

    @staticmethod
    def _relight(photo: Image) -> Image:
        """The photograph in scene-linear light: the studio's reflections get back what was clipped; dusk cools the rest."""
        light = _linear(photo)
        rows, columns = np.indices(photo.shape[:2], np.float32) + 0.5
        luma = light.mean(axis=2)
        for cx, cy, rx, ry, gain in _SPECULARS:
            inside = 1.0 - _smoothstep(0.8, 1.2, np.hypot((columns - cx) / rx, (rows - cy) / ry))
            light *= (1.0 + (gain - 1.0) * inside * _smoothstep(0.45, 0.95, luma))[..., None]
        return _richer(light * np.array([0.74, 0.75, 0.80], np.float32), 1.06)

    @staticmethod
    def _without_spill(colour: Image, distance: Image, width: Image) -> Image:
        """Her own colours out to past the soft edge, so that none of the studio's grey backdrop shows as a halo."""
        core = distance > 0.6 + 0.9 * width
        rows, columns = distance_transform_edt(~core, return_distances=False, return_indices=True)
        spread = colour[rows, columns]
        smooth = cv2.GaussianBlur(spread, (0, 0), 1.2)
        out: Image = np.where(core[..., None], colour, smooth)
        return out

    def look_up(self, x: Image, y: Image, time: float, reach: float) -> Image:
        """Texels (2, height, width) that design pixels (x, y) see at `time` in frames; `reach` in 0…1 is the way walked."""
        found = self._deform(*self._to_photo(x, y, time, reach), time)
        return np.asarray(np.stack(found) * np.float32(self.density) - np.float32(0.5), np.float32)

    def sample(self, texels: Image) -> Image:
        """Premultiplied RGBA (height, width, 4) at `texels`; nothing outside the texture."""
        out: Image = cv2.remap(self.texture, texels[0], texels[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return out

    def _to_photo(self, x: Image, y: Image, time: float, reach: float) -> tuple[Image, Image]:
        """The rigid part, inverted: she walks across, comes nearer, bobs and leans with each step."""
        ease = reach * reach * (3.0 - 2.0 * reach) * 0.4 + reach * 0.6
        centre_x = 318.0 + 318.0 * ease + 5.0 * np.sin(2 * np.pi * time / 24.0)
        centre_y = 551.0 + 6.0 * np.cos(2 * np.pi * time / 12.0)
        size = 0.86 + 0.15 * ease
        angle = np.radians(2.0) * np.sin(2 * np.pi * time / 24.0 + 0.6)
        c, s = np.float32(np.cos(angle) / size), np.float32(np.sin(angle) / size)
        dx, dy = x - np.float32(centre_x), y - np.float32(centre_y)
        ax, ay = self._ANCHOR
        return c * dx + s * dy + np.float32(ax), c * dy - s * dx + np.float32(ay)

    def _deform(self, x: Image, y: Image, time: float) -> tuple[Image, Image]:
        """The soft part, as displacements of the look-up in photograph pixels: sway, tilt of the head, the lifted helmet."""
        height = np.maximum(np.float32(490.0) - y, 0) / np.float32(490.0)
        sway = np.float32(20.0 * np.sin(2 * np.pi * time / 23.0)) * height * height
        tilt = np.radians(7.0) * np.sin(2 * np.pi * time / 27.0 + 1.1)
        hx, hy = self._HEAD
        head = 1.0 - _smoothstep(74.0, 138.0, np.hypot((x - hx) * np.float32(0.95), y - hy))
        nx, ny = self._NECK
        c, s = np.float32(np.cos(tilt) - 1.0), np.float32(np.sin(tilt))
        turn_x, turn_y = head * (c * (x - nx) + s * (y - ny)), head * (c * (y - ny) - s * (x - nx))
        ex, ey = self._HELMET
        lift = np.exp(-((x - ex) ** 2 + (y - ey) ** 2) / np.float32(2 * 95.0**2))
        lift_x = np.float32(5.0 * np.cos(2 * np.pi * time / 19.0)) * lift
        lift_y = np.float32(14.0 * np.sin(2 * np.pi * time / 19.0)) * lift
        return x + sway + turn_x + lift_x, y + turn_y + lift_y


class Background:
    """The launch pad at dusk: wider than the picture, panned across, its lamps as bright as lamps are."""

    WIDER = 1.2
    _TRAVEL = 160.0  # design pixels

    def __init__(self, scale: float) -> None:
        photo = imread(Path(data_dir) / "rocket.jpg").astype(np.float32) / 255.0
        width = max(8, round(DESIGN_WIDTH * self.WIDER * scale))
        height = max(8, round(width * photo.shape[0] / photo.shape[1]))
        shrinks = width < photo.shape[1]
        photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        light = _linear(np.clip(photo, 0.0, 1.0))
        luma = light.mean(axis=2)
        light *= (1.7 * (1.0 + 11.0 * _smoothstep(0.58, 1.0, luma) ** 2))[..., None]
        light = _richer(light, 1.12)
        self.texture: Image = cv2.GaussianBlur(light, (0, 0), max(0.3, 1.1 * scale))  # out of focus, and no JPEG blocks
        self.scale = scale

    def sample(self, width: int, height: int, time: float, reach: float) -> Image:
        """(height, width, 3): the camera pans right with some hand in it."""
        rows, columns = self.texture.shape[:2]
        spare = columns - width
        pan = (DESIGN_WIDTH * (self.WIDER - 1.0) - self._TRAVEL) / 2 + self._TRAVEL * reach
        pan += 3.0 * np.sin(2 * np.pi * time / 31.0)
        left = spare / 2 + (pan - DESIGN_WIDTH * (self.WIDER - 1.0) / 2) * self.scale
        drift = 4.0 * np.sin(2 * np.pi * time / 37.0 + 0.4) - 8.0
        top = rows - height + drift * self.scale
        move = np.array([[1.0, 0.0, left], [0.0, 1.0, top]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        out: Image = cv2.warpAffine(self.texture, move, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return out


class Scene:
    """The shot: any frame of it, made from its number alone, the same on every run.

    Raises: ParameterError (fewer than three frames, or a picture that is too small or too large).
    """

    def __init__(
        self, *, frames: int = 32, width: int = DESIGN_WIDTH, height: int = DESIGN_HEIGHT, seed: int = 0
    ) -> None:
        if not 3 <= frames <= 1000:
            raise ParameterError(
                f"{frames} frames can't be made", "ask for 3 to 1000: the keys are the first, middle and last"
            )
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise ParameterError(f"a size of {width}x{height} can't be made", "each side goes from 16 to 8192 pixels")
        self.frames, self.width, self.height, self.seed = frames, width, height, seed
        self._scale = max(width / DESIGN_WIDTH, height / DESIGN_HEIGHT)
        self._subject = Subject(self._scale)
        self._background = Background(self._scale)
        x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) / np.float32(self._scale)
        y = (np.arange(height, dtype=np.float32) + np.float32(0.5 - height / 2)) / np.float32(self._scale)
        self._x, self._y = np.meshgrid(x + np.float32(DESIGN_WIDTH / 2), y + np.float32(DESIGN_HEIGHT / 2))

    def composite(self, index: int) -> Composite:
        """Frame `index` from 0, its layers integrated over the shutter, within which she moves in straight lines."""
        subject = np.zeros((self.height, self.width, 4), np.float32)
        background = np.zeros((self.height, self.width, 3), np.float32)
        opens, closes = (self._look_up(index + SHUTTER * at) for at in (-0.5, 0.5))
        for k in range(SUBFRAMES):
            at = (k + 0.5) / SUBFRAMES
            time = index + SHUTTER * (at - 0.5)
            subject += self._subject.sample(cv2.addWeighted(opens, 1.0 - at, closes, at, 0.0))
            background += self._background.sample(self.width, self.height, time, self._reach(time))
        subject /= SUBFRAMES
        background /= SUBFRAMES
        alpha = np.clip(subject[..., 3], 0.0, 1.0)
        alpha[alpha > 1.0 - 1e-5] = 1.0  # what resampling a solid inside leaves of rounding
        foreground = np.ascontiguousarray(subject[..., :3])
        clean = foreground + (1.0 - alpha[..., None]) * background
        return Composite(foreground, alpha, background, self._grain(index, clean))

    def _look_up(self, time: float) -> Image:
        return self._subject.look_up(self._x, self._y, time, self._reach(time))

    def _reach(self, time: float) -> float:
        """The way along the path: short shots cover a part of it at the same pace, long ones take their time."""
        reach = 0.5 + (time - (self.frames - 1) / 2) / max(self.frames - 1, 31)
        return min(1.0, max(0.0, reach))

    def _grain(self, index: int, clean: Image) -> Image:
        """Film grain: a little wider than a pixel, its deviation growing with the root of the light, never quite zero."""
        noise = np.random.default_rng((self.seed, index)).standard_normal(clean.shape, np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), 0.65)
        noise /= noise.std()
        out: Image = noise * (0.0035 + 0.012 * np.sqrt(np.maximum(clean, 0.0)))
        return out

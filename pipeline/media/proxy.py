"""Review proxies: small JPEGs of a frame through a view transform that is baked once and kept.

A display view costs up to seconds a frame (ACES 2.0), so it is baked to a 65³ lattice once for each config, view and
plate space, and every frame then goes through matrix → log shaper → lattice:

- The matrix turns the plate's primaries into Rec.709's (Bradford adaptation). It only sets the lattice's axes, since the
  bake undoes it: along the display's own primaries its clipping at zero falls on the lattice's faces, where it is exact,
  and greys lie on the diagonal. A space whose primaries aren't known keeps its own axes.
- The shaper is ACEScct's curve (Academy S-2016-001): 0 to 222, with a linear toe down to −0.007.
- The lattice is read by tetrahedra.

`PyOpenColorIO.Baker` isn't used: it wants a shaper space without crosstalk in the config itself, which a show's own
config need not have. Measured against the direct view (ACES 1.0 SDR of the pinned config): greys within 0.3 of 255;
colours of up to 80 % saturation within 1.1 in Rec.709 and, for 99.9 % of them, within 1.0 in AP1. The rest of those, deep
lights far outside Rec.709, may be visibly off.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np
import PyOpenColorIO as ocio

from pipeline.colorspace import CHROMATICITIES, CONFIG_NAMES, PINNED_CONFIG
from pipeline.errors import ParameterError, PlateError, StorageError
from pipeline.media.files import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    Pixels = NDArray[np.uint8]

DISPLAY = "sRGB - Display"
LATTICE = 65
JPEG_QUALITY = 90
OVERLAY_COLOR = (255, 64, 32)
"""Display-referred R, G, B of the matte's tint: it stands out from skin, sky and leaves."""
OVERLAY_STRENGTH = 0.5


class ProxyMaker:
    """Turns frames of one colour space into display pixels. Safe to call from several threads.

    `config` is an `ocio://` name or the path of a show's own config; `view` None is the display's default view. The baked
    lattice is kept in `cache` under a name of all that it depends on; without a cache that can be written it is baked
    again (0.1 s, 1 s with ACES 2.0).

    Raises: ParameterError (no such config, display or view), PlateError (a space that the config doesn't know).
    """

    def __init__(
        self, space: str, *, config: str = PINNED_CONFIG, display: str = DISPLAY, view: str | None = None, cache: Path
    ) -> None:
        self._config = _load(config)
        self.view = _view(self._config, config, display, view)
        self.display = display
        source = _space(self._config, config, space)
        shaper = _shaper(space)
        identity = (
            self._config.getCacheID(),
            ocio.__version__,
            str(_matrix(space)),
            source,
            display,
            self.view,
            LATTICE,
        )
        key = hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()[:24]
        lattice = _kept(cache / f"view-{key}.npy")
        if lattice is None:
            lattice = _bake(self._config, shaper, source=source, display=display, view=self.view)
            _keep(cache / f"view-{key}.npy", lattice)
        lut = ocio.Lut3DTransform(LATTICE)
        lut.setData(lattice)
        lut.setInterpolation(ocio.INTERP_TETRAHEDRAL)
        self._cpu = self._config.getProcessor(ocio.GroupTransform([shaper, lut])).getOptimizedCPUProcessor(
            ocio.BIT_DEPTH_F32, ocio.BIT_DEPTH_UINT8, ocio.OPTIMIZATION_DEFAULT
        )

    def rgb8(self, frame: Array, height: int) -> Pixels:
        """(3, H, W) scene-linear float32 to (h, w, 3) display pixels of at most `height` lines.

        Scaled by area in scene-linear, as a lens would: a small highlight keeps its light.
        """
        width, height = _size(frame.shape[2], frame.shape[1], height)
        small = np.empty((height, width, 3), np.float32)
        for channel, plane in enumerate(frame):
            small[..., channel] = _scaled(plane, width, height)
        pixels = np.empty((height, width, 3), np.uint8)
        row = width * 3
        self._cpu.apply(
            ocio.PackedImageDesc(small, width, height, 3, ocio.BIT_DEPTH_F32, 4, 12, row * 4),
            ocio.PackedImageDesc(pixels, width, height, 3, ocio.BIT_DEPTH_UINT8, 1, 3, row),
        )
        return pixels

    @staticmethod
    def write(path: Path, pixels: Pixels) -> None:
        """As `write_jpeg`."""
        write_jpeg(path, pixels)


def write_jpeg(path: Path, pixels: Pixels) -> None:
    """Write (h, w, 3) or (h, w) pixels as a JPEG, whole or not at all. Raises: StorageError.

    By OpenCV's encoder: OpenImageIO's wheel takes four times as long for the same picture.
    """
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])

    def save(file: IO[bytes]) -> None:
        file.write(encoded.tobytes())

    write_whole(path, save)


def matte8(matte: Array, height: int) -> Pixels:
    """(H, W) matte 0 … 1 to (h, w) pixels of at most `height` lines, scaled by area, through no view: a matte is data.

    Clipped for show; NaN is shown as 0.
    """
    width, height = _size(matte.shape[1], matte.shape[0], height)
    small = _scaled(np.asarray(matte, np.float32), width, height)
    return np.asarray(cv2.convertScaleAbs(np.fmax(small, 0), alpha=255), np.uint8)


def overlay8(pixels: Pixels, matte: Pixels) -> Pixels:
    """The picture, tinted where the matte is: (h, w, 3) and (h, w) of the same size to (h, w, 3)."""
    alpha = cv2.merge([matte] * 3)
    tint = np.empty_like(pixels)
    tint[:] = OVERLAY_COLOR
    # pixels + (tint − pixels)·a·strength, in 8 bits: the scale brings the product of two bytes back to one byte.
    scale = OVERLAY_STRENGTH / 255
    kept = cv2.subtract(pixels, cv2.multiply(pixels, alpha, scale=scale))
    return np.asarray(cv2.add(kept, cv2.multiply(tint, alpha, scale=scale)), np.uint8)


def _size(width: int, height: int, most: int) -> tuple[int, int]:
    if most >= height:
        return width, height
    return max(1, round(width * most / height)), most


def _scaled(plane: Array, width: int, height: int) -> Array:
    if plane.shape == (height, width):
        return plane
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _load(config: str) -> ocio.Config:
    try:
        if config.startswith("ocio://"):
            return ocio.Config.CreateFromBuiltinConfig(config)
        return ocio.Config.CreateFromFile(config)
    except (ocio.Exception, ocio.ExceptionMissingFile) as error:
        raise ParameterError(
            f"OCIO config {config} can't be used: {error}", "name a config file or an ocio:// config"
        ) from error


def _view(config: ocio.Config, name: str, display: str, view: str | None) -> str:
    displays = list(config.getDisplays())
    if display not in displays:
        raise ParameterError(f"OCIO config {name} has no display {display!r}", "it has: " + ", ".join(displays))
    if view is None:
        return str(config.getDefaultView(display))
    views = list(config.getViews(display))
    if view not in views:
        raise ParameterError(
            f"display {display!r} of OCIO config {name} has no view {view!r}", "it has: " + ", ".join(views)
        )
    return view


def _space(config: ocio.Config, name: str, space: str) -> str:
    """The config's own name of a space, by interop id, by the pinned config's name, or by the name as it is."""
    for known in (space, CONFIG_NAMES.get(space, "")):
        if known and (found := config.getColorSpace(known)) is not None:
            return str(found.getName())
    raise PlateError(
        f"OCIO config {name} has no colour space {space!r}", "give the plate's colour space by a name that it has"
    )


def _shaper(space: str) -> ocio.GroupTransform:
    """Plate space to the lattice's 0 … 1 along each axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = _matrix(space)
    axes = ocio.MatrixTransform()
    axes.setMatrix(matrix.reshape(-1).tolist())
    log = ocio.LogCameraTransform([0.0078125] * 3)
    log.setLogSideSlopeValue([1 / 17.52] * 3)
    log.setLogSideOffsetValue([9.72 / 17.52] * 3)
    return ocio.GroupTransform([axes, log])


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _matrix(space: str) -> NDArray[np.float64]:
    """3×3 from a space's primaries to Rec.709's by Bradford's adaptation; identity for primaries that aren't known."""
    if space not in CHROMATICITIES:
        return np.eye(3)
    source, target = _to_xyz(CHROMATICITIES[space]), _to_xyz(CHROMATICITIES["lin_rec709_scene"])
    white_source, white_target = _BRADFORD @ source.sum(axis=1), _BRADFORD @ target.sum(axis=1)
    adapt = np.linalg.solve(_BRADFORD, np.diag(white_target / white_source) @ _BRADFORD)
    return np.asarray(np.linalg.solve(target, adapt @ source), np.float64)


def _to_xyz(chromaticities: tuple[float, ...]) -> NDArray[np.float64]:
    """SMPTE RP 177: linear RGB to CIE XYZ from the primaries' and the white's x, y."""
    x, y = np.array(chromaticities).reshape(4, 2).T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    primaries, white = xyz[:, :3], xyz[:, 3]
    return np.asarray(primaries * np.linalg.solve(primaries, white), np.float64)


def _bake(config: ocio.Config, shaper: ocio.GroupTransform, *, source: str, display: str, view: str) -> Array:
    """The view at every lattice point, flat, blue fastest as OCIO has it: LATTICE³ × 3 float32."""
    steps = np.linspace(0, 1, LATTICE, dtype=np.float32)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3).copy()
    config.getProcessor(shaper, ocio.TRANSFORM_DIR_INVERSE).getDefaultCPUProcessor().applyRGB(grid)
    config.getProcessor(source, display, view, ocio.TRANSFORM_DIR_FORWARD).getDefaultCPUProcessor().applyRGB(grid)
    return np.asarray(grid.reshape(-1), np.float32)


def _kept(path: Path) -> Array | None:
    """A lattice that was baked before; None when it isn't there or isn't whole."""
    try:
        lattice = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = lattice.dtype == np.float32 and lattice.shape == (LATTICE**3 * 3,) and bool(np.isfinite(lattice).all())
    return lattice if whole else None


def _keep(path: Path, lattice: Array) -> None:
    # A cache that can't be written costs a second the next time, never a publish.
    with contextlib.suppress(OSError, StorageError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.save(file, lattice, allow_pickle=False))

"""Read a frame of any format that plates and keys come in: EXR, DPX, TIFF, PNG, JPEG.

EXR goes through `exr` and is not touched. The others go through OpenImageIO and come out as what the rest of the pipeline
works on: a scene-linear half frame whose header says its colour space, rate and timecode. What a file is, its first bytes
say, not its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import OpenImageIO as oiio
import PyOpenColorIO as ocio

from pipeline.colorspace import CHROMATICITIES, CONFIG_NAMES, PINNED_CONFIG, interop_id, is_scene_linear
from pipeline.errors import KeyframeError, PlateError
from pipeline.layer import Layer, PixelType, layers_of
from pipeline.media.exr import Frame, Part, picture_channels, probe, read_frame
from pipeline.media.exr_check import LIMITS
from pipeline.media.exr_header import timecode_attribute
from pipeline.media.files import read_error
from pipeline.media.half import to_half
from pipeline.plate import Window
from pipeline.rate import FrameRate, RateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

oiio.attribute("limits:imagesize_MB", LIMITS.decoded_bytes >> 20)
oiio.attribute("limits:channels", LIMITS.channels)
oiio.attribute("threads", 1)

_MAGIC = {
    b"\x76\x2f\x31\x01": "exr",
    b"SDPX": "dpx",
    b"XPDS": "dpx",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpeg",
}
_JPEG_END, _JPEG_TAIL = b"\xff\xd9", 65536
_MATCHES = 2e-3
"""How far a file's primaries may be from a known space's: float32 and three written digits."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What one image says of itself, whatever its format."""

    kind: str
    """`exr`, `dpx`, `tiff`, `png` or `jpeg`."""
    channels: tuple[tuple[str, str], ...]
    """(full name, type) of every channel; types are `half`, `float`, `uint`, `uint8`, `uint16`, …"""
    layers: tuple[Layer, ...]
    data_window: Window
    display_window: Window
    rate: FrameRate | None
    timecode: str | None
    colorspace: str | None
    """The tag as written, or None without one."""
    chromaticities: tuple[float, ...] | None

    @property
    def width(self) -> int:
        """Pixels across the data window."""
        return self.data_window.width

    @property
    def height(self) -> int:
        """Pixels down the data window."""
        return self.data_window.height


def kind_of(path: Path) -> str:
    """The format by the file's first bytes. Raises: PlateError (none that is read here), StorageError."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise read_error(error, path) from error
    if not head:
        raise PlateError(f"{path} is empty (0 bytes)", "it was not written to the end; render or copy it again")
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    raise PlateError(
        f"{path} is not an image: it begins with {head!r}",
        "its content, whatever its name, is none of EXR, DPX, TIFF, PNG, JPEG",
    )


def image_info(path: Path | str) -> ImageInfo:
    """Size, channels and tags, without decoding pixels. Raises: PlateError, StorageError."""
    path = Path(path)
    kind = kind_of(path)
    if kind == "exr":
        info = probe(path)
        return ImageInfo(
            kind=kind,
            channels=tuple((c.name, str(c.type)) for part in info.parts for c in part.channels),
            layers=info.layers,
            data_window=info.main.data_window,
            display_window=info.main.display_window,
            rate=info.rate,
            timecode=info.timecode,
            colorspace=info.colorspace,
            chromaticities=info.chromaticities,
        )
    source = _open(path, kind)
    try:
        return _info_of(source.spec(), kind)
    finally:
        source.close()


def _open(path: Path, kind: str) -> Any:
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)  # colour is made linear before it is multiplied
    source = oiio.ImageInput.open(str(path), config)
    if source is None:
        reason = oiio.geterror().strip()
        raise PlateError(f"{path} can't be opened as {kind.upper()}: {reason}", "render or copy it again")
    if source.format_name() != kind:  # OpenImageIO went by the file's extension and found something else
        source.close()
        raise PlateError(f"{path} is a {kind.upper()} that opens as {source.format_name()}", "render or copy it again")
    spec = source.spec()
    if spec.width > LIMITS.side or spec.height > LIMITS.side or spec.depth > 1:
        source.close()
        raise PlateError(
            f"{path} declares {spec.width}×{spec.height} pixels", f"the most is {LIMITS.side}×{LIMITS.side}"
        )
    return source


def _info_of(spec: Any, kind: str) -> ImageInfo:
    x, y = spec.x - spec.full_x, spec.y - spec.full_y
    formats = spec.channelformats or [spec.format] * spec.nchannels
    tag = spec.get_string_attribute("oiio:ColorSpace")
    return ImageInfo(
        kind=kind,
        channels=tuple((name, str(form)) for name, form in zip(spec.channelnames, formats, strict=True)),
        layers=layers_of(spec.channelnames),
        data_window=Window(x, y, x + spec.width - 1, y + spec.height - 1),
        display_window=Window.of_size(spec.full_width, spec.full_height),
        rate=_rate_of(spec),
        timecode=_timecode_of(spec),
        colorspace=tag or None,
        chromaticities=None,
    )


def _rate_of(spec: Any) -> FrameRate | None:
    for name in ("FramesPerSecond", "dpx:FrameRate", "dpx:FilmFrameRate", "dpx:TelevisionFrameRate"):
        value = spec.getattribute(name)
        if isinstance(value, tuple) and len(value) == 2 and value[1]:
            value = Fraction(*value)
        if isinstance(value, (int, float, Fraction)) and value > 0:
            try:
                return FrameRate.of(value)
            except RateError:
                continue
    return None


def _timecode_of(spec: Any) -> str | None:
    text = spec.get_string_attribute("dpx:TimeCode")
    try:
        timecode_attribute(text)
    except PlateError:
        return None
    return str(text)


def source_colorspace(info: ImageInfo, override: str | None) -> tuple[str, str]:
    """What the file's numbers are in, and what they are worked on in: (input, working) interop ids.

    The person's word counts first, then the file's tag (`colorInteropID`, `oiio:ColorSpace`), then its primaries. An EXR or
    a float file that says nothing is linear Rec.709, an 8- or 16-bit picture sRGB. A scene-linear space is worked on as it
    is, everything else in linear Rec.709; `data` stays data.
    Raises: PlateError (a tag that isn't known, a DPX that doesn't say).
    """
    source = _declared_space(info) if override is None else interop_id(override)
    return source, source if is_scene_linear(source) or source == "data" else "lin_rec709_scene"


def _declared_space(info: ImageInfo) -> str:
    if info.colorspace is not None:
        tag = (
            info.colorspace.removesuffix("_display") + "_scene"
            if info.colorspace.endswith("_display")
            else info.colorspace
        )
        try:
            return interop_id(tag)
        except PlateError as error:
            raise PlateError(
                f"the file is tagged {info.colorspace!r}, a colour space that is not known",
                f"say what it is with --colorspace; {error.hint}",
            ) from error
    if info.chromaticities is not None:
        for space, primaries in CHROMATICITIES.items():
            if all(abs(a - b) < _MATCHES for a, b in zip(primaries, info.chromaticities, strict=True)):
                return space
    if info.kind == "dpx":
        raise PlateError("the DPX doesn't say which colour space it is in", "say it with --colorspace, such as srgb")
    floating = any(kind in (PixelType.HALF, PixelType.FLOAT) for _, kind in info.channels)
    return "lin_rec709_scene" if info.kind == "exr" or floating else "srgb_rec709_scene"


def read_image(path: Path | str, *, colorspace: str | None = None, only: Collection[str] | None = None) -> Frame:
    """Read a frame of a plate: scene-linear, in the working space of `source_colorspace(image_info(path), colorspace)`.

    A scene-linear EXR comes back as `read_frame(path, only=only)` gives it, bit for bit. From other formats come half
    channels R, G, B (Y when there is one channel) and A, alpha kept linear and multiplied in, as in an EXR.
    Raises: PlateError, StorageError.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "exr":
        frame = read_frame(path, only=only)
        if colorspace is None or is_scene_linear(interop_id(colorspace)) or interop_id(colorspace) == "data":
            return frame
        return _linear_exr(frame, *source_colorspace(image_info(path), colorspace))
    planes, info, unassociated = _read_planes(path, kind)
    source, working = source_colorspace(info, colorspace)
    colours = [name for name, _ in info.channels if name != "A"]
    _to_linear([planes[name] for name in colours], source, working)
    if unassociated and "A" in planes:
        for name in colours:
            planes[name] *= planes["A"]
    header: dict[str, Any] = {"colorInteropID": working}
    if working in CHROMATICITIES:
        header["chromaticities"] = CHROMATICITIES[working]
    if info.rate is not None:
        header["framesPerSecond"] = info.rate.value
    if info.timecode is not None:
        header["timeCode"] = timecode_attribute(info.timecode)
    kept = {n: to_half(p, channel=n) for n, p in planes.items() if only is None or n in only}
    channels = kept or {name: to_half(plane, channel=name) for name, plane in planes.items()}
    return Frame((Part("", header, channels, info.data_window, info.display_window),))


def _linear_exr(frame: Frame, source: str, working: str) -> Frame:
    """An EXR that isn't scene-linear, by the person's word: its picture converted, everything else as it is."""
    main = frame.main
    names = tuple(dict.fromkeys(picture_channels(main.channels)))
    planes = {name: main.channels[name].astype(np.float32) for name in names}
    _to_linear(list(planes.values()), source, working)
    channels = dict(main.channels)
    for name, plane in planes.items():
        channels[name] = to_half(plane, channel=name) if channels[name].dtype == np.float16 else plane
    header = {**main.header, "colorInteropID": working, "chromaticities": CHROMATICITIES[working]}
    made = Part(main.name, header, channels, main.data_window, main.display_window)
    return Frame(tuple(made if part is main else part for part in frame.parts))


def _read_planes(path: Path, kind: str) -> tuple[dict[str, NDArray[np.float32]], ImageInfo, bool]:
    """Float planes by channel name, integers scaled to 0 … 1; and whether colour still is to be multiplied by alpha."""
    if kind == "jpeg":
        _check_jpeg_end(path)
    source = _open(path, kind)
    try:
        spec = source.spec()
        pixels = source.read_image("float")
        error = source.geterror().strip()
    finally:
        source.close()
    if pixels is None or error:
        raise PlateError(f"{path} can't be decoded: {error or 'its pixels are damaged'}", "render or copy it again")
    pixels = pixels.reshape(spec.height, spec.width, spec.nchannels)
    planes = {name: np.ascontiguousarray(pixels[..., i]) for i, name in enumerate(spec.channelnames)}
    return planes, _info_of(spec, kind), bool(spec.get_int_attribute("oiio:UnassociatedAlpha"))


def _check_jpeg_end(path: Path) -> None:
    """A JPEG that was cut off or zeroed decodes to grey without a word: its end-of-image marker must be there."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _JPEG_TAIL))
        if _JPEG_END not in file.read():
            raise PlateError(f"{path} is cut off: it lacks its end marker", "render or copy it again")


def _to_linear(planes: list[NDArray[np.float32]], source: str, working: str) -> None:
    """Bring planes from `source` to `working` in place: one plane stands for grey, three for R, G, B."""
    if source == working or not planes:
        return
    picture = np.stack([planes[i if len(planes) >= 3 else 0] for i in range(3)], axis=-1)
    _processor(source, working).applyRGB(picture)
    for i, plane in enumerate(planes[:3]):
        plane[...] = picture[..., i]


@cache
def _config() -> Any:
    return ocio.Config.CreateFromBuiltinConfig(PINNED_CONFIG.removeprefix("ocio://"))


@cache
def _processor(source: str, working: str) -> Any:
    processor = _config().getProcessor(CONFIG_NAMES[source], CONFIG_NAMES[working])
    return processor.getOptimizedCPUProcessor(ocio.OPTIMIZATION_LOSSLESS)


_MATTE_LAYERS = ("matte", "mask", "roto", "alpha")


def read_matte(path: Path | str, *, window: Window | None = None, display: Window | None = None) -> NDArray[np.float32]:
    """A matte as (height, width) float32, 0 … 1, numbers as stored: no colour transform, integers scaled by their maximum.

    Which channel: a lone channel; else the first layer whose name says it is one (`matte.A`, `mask.…`, `roto.…`, `alpha`);
    else A, unless it is the same everywhere; else the largest of R, G, B (a grey picture's value, a coloured shape's
    strength); else Y; else A.

    With a plate's data `window` and `display` window the matte is brought into the data window, as `fit_matte` says. Without
    them: an EXR whose pixels fill only a part of its display window, as Nuke crops them, is filled up with 0 to the display
    window; one with overscan is given in its data window.
    Raises: PlateError (unreadable), KeyframeError (another size than the plate, NaN), StorageError.
    """
    matte, data, own_display = matte_plane(Path(path))
    if np.isnan(matte).any():
        raise KeyframeError(
            f"{path} has {int(np.isnan(matte).sum())} pixels that are no number", "export the matte again"
        )
    if window is not None and display is not None:
        matte = fit_matte(matte, data, own_display, window=window, display=display)
    elif _inside(data, own_display):
        matte = place(matte, data, own_display)
    return np.clip(matte, 0, 1)


def _inside(inner: Window, outer: Window) -> bool:
    return (
        outer.x_min <= inner.x_min
        and outer.y_min <= inner.y_min
        and inner.x_max <= outer.x_max
        and inner.y_max <= outer.y_max
    )


def fit_matte(
    matte: NDArray[np.float32], data: Window, own_display: Window, *, window: Window, display: Window
) -> NDArray[np.float32]:
    """A key's plane in the plate's data `window`; `display` is the plate's display window.

    A key with the plate's format (its own display window has the plate's size) goes where its data window says; a bare
    picture of the size of the plate's data window, or of its display window, goes there.
    Raises: KeyframeError (none of the three).
    """
    if (own_display.width, own_display.height) == (display.width, display.height):
        dx, dy = display.x_min - own_display.x_min, display.y_min - own_display.y_min
        return place(matte, Window(data.x_min + dx, data.y_min + dy, data.x_max + dx, data.y_max + dy), window)
    if (data.width, data.height) == (window.width, window.height):
        return matte
    if (data.width, data.height) == (display.width, display.height):
        return place(matte, display, window)
    raise KeyframeError(
        f"is {own_display.width}×{own_display.height}, the plate is {display.width}×{display.height}",
        "paint the key on the plate itself, at full size",
    )


def matte_plane(path: Path) -> tuple[NDArray[np.float32], Window, Window]:
    """The channel that `read_matte` chooses, unclipped, with the data and display windows of its file."""
    kind = kind_of(path)
    if kind != "exr":
        planes, info, _ = _read_planes(path, kind)
        return _choose(planes), info.data_window, info.display_window
    frame = read_frame(path)
    for part in frame.parts:
        if (named := _named_matte(part.channels)) is not None and len(frame.parts) > 1:
            return part.channels[named].astype(np.float32), part.data_window, part.display_window
    main = frame.main
    return _choose(main.channels), main.data_window, main.display_window


def _named_matte(names: Collection[str]) -> str | None:
    for layer in layers_of(names):
        if any(word in layer.name.lower() for word in _MATTE_LAYERS):
            return f"{layer.name}.A" if "A" in layer.channels else layer.full_names()[0]
    return next((n for n in names if n.lower() in _MATTE_LAYERS), None)


def _choose(planes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    if len(planes) == 1:
        return next(iter(planes.values())).astype(np.float32)
    if (named := _named_matte(planes)) is not None:
        return planes[named].astype(np.float32)
    alpha = planes.get("A")
    if alpha is not None and (alpha != alpha.flat[0]).any():
        return alpha.astype(np.float32)
    colours = [planes[name].astype(np.float32) for name in "RGB" if name in planes]
    if colours:
        strongest: NDArray[np.float32] = np.stack(colours).max(axis=0)
        return strongest
    rest = planes.get("Y", alpha)
    if rest is None:
        raise PlateError(f"no matte among the channels {', '.join(sorted(planes))}", "give one channel, or RGBA")
    return rest.astype(np.float32)


def place(plane: NDArray[np.float32], source: Window, target: Window) -> NDArray[np.float32]:
    """The pixels of `source` in the window `target`, both in the same coordinates; 0 where there are none."""
    if source == target:
        return plane
    out = np.zeros((target.height, target.width), np.float32)
    x0, y0 = max(source.x_min, target.x_min), max(source.y_min, target.y_min)
    x1, y1 = min(source.x_max, target.x_max) + 1, min(source.y_max, target.y_max) + 1
    if x0 < x1 and y0 < y1:
        out[y0 - target.y_min : y1 - target.y_min, x0 - target.x_min : x1 - target.x_min] = plane[
            y0 - source.y_min : y1 - source.y_min, x0 - source.x_min : x1 - source.x_min
        ]
    return out

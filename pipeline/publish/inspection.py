"""Look at every produced frame once, for all validators and proxies together.

Each frame is decoded in a small pool of threads and only its facts are kept, so a shot of any length needs the memory of a
few frames. The plate's frame is decoded beside it only when no hash of it is at hand, or when the hash says that something
differs and the channel is to be named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from pipeline.errors import PlateError
from pipeline.layer import PixelType
from pipeline.media.exr import Frame, FrameInfo, Part, picture_channels, pixel_hash, probe, read_frame
from pipeline.media.exr_header import PartHeader, encode, shift_timecode, timecode_text
from pipeline.media.half import to_float
from pipeline.media.image import kind_of, place, read_image
from pipeline.media.proxy import ProxyMaker, matte8, overlay8
from pipeline.media.stream import FrameReader
from pipeline.plate import Window
from pipeline.publish.values import PublishRequest, proxy_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

STAMPED = frozenset({"framesPerSecond", "timeCode", "colorInteropID", "chromaticities"})
"""Header attributes that a publish may set where the plate was silent or wrong; each has a validator of its own."""
_DTYPE_OF = {
    PixelType.HALF: np.dtype(np.float16),
    PixelType.FLOAT: np.dtype(np.float32),
    PixelType.UINT: np.dtype(np.uint32),
}
_TYPE_OF = {dtype: kind for kind, dtype in _DTYPE_OF.items()}


@dataclass(frozen=True, slots=True)
class PartLayout:
    """How one part's pixels lie."""

    name: str
    data_window: Window
    display_window: Window
    channels: Mapping[str, PixelType]


@dataclass(frozen=True, slots=True)
class MatteFacts:
    """One matte layer on one frame."""

    low: float
    high: float
    digest: str
    """Of its pixels: two frames with the same digest have the same matte."""


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """All that validators ask of one produced frame. `fault` is set, and the rest is empty, when it can't be read."""

    frame: int
    fault: PlateError | None = None
    source_fault: PlateError | None = None
    parts: tuple[PartLayout, ...] = ()
    source_parts: tuple[PartLayout, ...] = ()
    info: FrameInfo | None = None
    source_timecode: str | None = None
    lost_header: tuple[str, ...] = ()
    """Attributes of the plate's frame that are gone or changed."""
    altered: tuple[str, ...] = ()
    """Channels of the plate's own, other than those that the task may change, whose pixels differ."""
    replaced: bool = False
    """The plate's frame isn't the one any more that the job was submitted with."""
    not_finite: Mapping[str, int] = field(default_factory=dict)
    """Channel of the main picture or an added layer → how many values are NaN or infinite."""
    mattes: Mapping[str, MatteFacts] = field(default_factory=dict)
    digest: str = ""
    """`pixel_hash` of the whole frame."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The plate's frame, as far as it was read: `frame` is None while a hash stands for its pixels.

    `layouts` leaves out the layers that the task replaces by its own.
    """

    path: Path
    headers: tuple[Mapping[str, Any], ...]
    layouts: tuple[PartLayout, ...]
    timecode: str | None
    frame: Frame | None
    overlaid: bool = False
    """Whether it has layers that the task replaces: then its hash can't be taken from the produced frame."""


def matte_layers(request: PublishRequest, parts: tuple[PartLayout, ...]) -> tuple[str, ...]:
    """The added layers that are mattes: those whose only channel is A."""
    names = [name for part in parts for name in part.channels]
    return tuple(
        layer for layer in request.added_layers if [n for n in names if n.rpartition(".")[0] == layer] == [f"{layer}.A"]
    )


def inspect_frames(
    request: PublishRequest, *, proxies: Path | None, each: Callable[[int], None]
) -> Iterator[tuple[FrameFacts, Mapping[str, Bytes]]]:
    """The facts of every asked frame that was produced, rising, with its mattes as 8 bits by layer.

    With `proxies`, review proxies are written into that folder on the way. `each(done)` is called after every frame and may
    raise to stop. Raises: StorageError, ParameterError (the view), whatever `each` raises.
    """
    settings = request.proxies
    maker = None
    if proxies is not None and settings is not None:
        maker = ProxyMaker(
            request.plate.colorspace,
            config=settings.config,
            display=settings.display,
            view=settings.view,
            cache=Path(settings.cache),
        )
        for kind in ("beauty", "matte", "overlay"):
            proxy_path(proxies, kind, 0).parent.mkdir(parents=True, exist_ok=True)

    def look(frame: int) -> tuple[FrameFacts, Mapping[str, Bytes]]:
        return _look(request, frame, maker, proxies)

    frames = [frame for frame in request.frames if frame in request.produced]
    with FrameReader(look, frames, ahead=request.threads, behind=0, threads=request.threads) as reader:
        for done, frame in enumerate(frames, start=1):
            yield reader.get(frame)
            each(done)


def _look(
    request: PublishRequest, frame: int, maker: ProxyMaker | None, proxies: Path | None
) -> tuple[FrameFacts, Mapping[str, Bytes]]:
    path = request.produced[frame]
    try:
        made, info = read_frame(path), probe(path)
    except PlateError as error:
        return FrameFacts(frame, fault=error), {}
    layouts = tuple(_layout(part) for part in made.parts)
    planes = _added_planes(made, matte_layers(request, layouts))
    mattes = {layer: _to_bytes(plane) for layer, plane in planes.items()}
    if maker is not None and proxies is not None:
        _write_proxies(request, maker, made, planes, proxies, frame)
    source: _Source | None = None
    source_fault: PlateError | None = None
    try:
        source = _source(request, frame)
        altered, replaced = _altered(request, frame, made, source)
    except PlateError as error:
        source_fault, altered, replaced = error, (), False
    facts = FrameFacts(
        frame,
        source_fault=source_fault,
        parts=layouts,
        source_parts=() if source is None else source.layouts,
        info=info,
        source_timecode=None if source is None else source.timecode,
        lost_header=() if source is None else tuple(_lost(made, source)),
        altered=altered,
        replaced=replaced,
        not_finite=_not_finite(request, made),
        mattes={layer: _matte_facts(plane) for layer, plane in planes.items()},
        digest=pixel_hash(made),
    )
    return facts, mattes


def _layout(part: Part) -> PartLayout:
    channels = {name: _TYPE_OF[plane.dtype] for name, plane in part.channels.items()}
    return PartLayout(part.name, part.data_window, part.display_window, channels)


def _header_layout(part: PartHeader) -> PartLayout:
    return PartLayout(part.name, part.data_window, part.display_window, {c.name: c.type for c in part.channels})


def _source(request: PublishRequest, frame: int) -> _Source:
    """The plate's frame: its header alone where its hash is known, else all of it, read as the task read it.

    Of a frame that the plate hasn't, the header of the one that it was made like, in the windows that are delivered.
    """
    own = request.like(frame)
    path = request.plate.pattern.path(own)
    as_it_is = request.source_colorspace in ("", request.plate.colorspace)
    if kind_of(path) == "exr" and (own != frame or (frame in request.input_hashes and as_it_is)):
        info = probe(path)
        headers = tuple(part.attributes for part in info.parts)
        layouts = tuple(_header_layout(part) for part in info.parts)
        kept = _without(layouts, request.added_layers)
        timecode = _moved_timecode(info, frame - own) if own != frame else info.timecode
        return _Source(path, headers, kept, timecode, None, overlaid=kept != layouts)
    whole = read_image(path, colorspace=request.source_colorspace or None)
    headers = tuple(part.header for part in whole.parts)
    timecode = probe(path).timecode if kind_of(path) == "exr" else None
    layouts = _without(tuple(_layout(part) for part in whole.parts), request.added_layers)
    return _Source(path, headers, layouts, None if own != frame else timecode, None if own != frame else whole)


def _moved_timecode(info: FrameInfo, frames: int) -> str | None:
    stamp = next((p.attributes["timeCode"] for p in info.parts if "timeCode" in p.attributes), None)
    moved = None if stamp is None or info.rate is None else shift_timecode(stamp, frames, info.rate)
    return timecode_text(moved)


def _without(layouts: tuple[PartLayout, ...], layers: tuple[str, ...]) -> tuple[PartLayout, ...]:
    """The layouts without the channels of these layers."""
    return tuple(
        replace(layout, channels={n: k for n, k in layout.channels.items() if n.rpartition(".")[0] not in layers})
        for layout in layouts
    )


def _altered(request: PublishRequest, frame: int, made: Frame, source: _Source) -> tuple[tuple[str, ...], bool]:
    """The plate's own channels that aren't bit for bit the plate's, and whether the plate isn't what its hash says.

    Another layout is told by the layout's validators; of a frame that the plate hasn't, nothing is the plate's.
    """
    if frame in request.missing or not _same_layout(made, source):
        return (), False
    free = frozenset(picture_channels(made.main.channels)) if request.changed_rgb else frozenset()
    free |= {"A"} if request.makes_alpha else frozenset()
    whole, replaced = source.frame, False
    if whole is None:
        if not free and not source.overlaid and pixel_hash(_own(made, source)) == request.input_hashes[frame]:
            return (), False
        whole = read_image(source.path, colorspace=request.source_colorspace or None)
        replaced = pixel_hash(whole) != request.input_hashes[frame]
    main = made.parts.index(made.main)
    altered = tuple(
        name
        for i, (part, theirs, layout) in enumerate(zip(made.parts, whole.parts, source.layouts, strict=True))
        for name, plane in theirs.channels.items()
        if name in layout.channels
        if not (i == main and name in free) and not _same_bits(plane, _within(part, name, layout.data_window))
    )
    return altered, replaced


def _within(part: Part, channel: str, window: Window) -> NDArray[Any]:
    """A part's channel inside a window of its own, as the plate had it before more was made round it."""
    y, x = window.y_min - part.data_window.y_min, window.x_min - part.data_window.x_min
    return part.channels[channel][y : y + window.height, x : x + window.width]


def _own(made: Frame, source: _Source) -> Frame:
    """The plate's frame as the produced one has it: its channels alone, in its windows and under its header."""
    return Frame(
        tuple(
            Part(
                layout.name,
                header,
                {n: np.ascontiguousarray(_within(part, n, layout.data_window)) for n in layout.channels},
                layout.data_window,
                layout.display_window,
            )
            for part, layout, header in zip(made.parts, source.layouts, source.headers, strict=True)
        )
    )


def _same_layout(made: Frame, source: _Source) -> bool:
    if len(made.parts) != len(source.layouts):
        return False
    return all(
        _holds(part.data_window, layout.data_window)
        and all(n in part.channels and part.channels[n].dtype == _DTYPE_OF[kind] for n, kind in layout.channels.items())
        for part, layout in zip(made.parts, source.layouts, strict=True)
    )


def _holds(outer: Window, inner: Window) -> bool:
    return (
        outer.x_min <= inner.x_min
        and outer.y_min <= inner.y_min
        and outer.x_max >= inner.x_max
        and outer.y_max >= inner.y_max
    )


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equal bit for bit: NaN equals the same NaN, and −0 isn't 0."""
    whole = {2: np.uint16, 4: np.uint32}[one.dtype.itemsize]
    a, b = np.ascontiguousarray(one), np.ascontiguousarray(other)
    return bool(np.array_equal(a.view(whole), b.view(whole)))


def _lost(made: Frame, source: _Source) -> Iterator[str]:
    """The plate's attributes that didn't come through, part by part."""
    for part, theirs in zip(made.parts, source.headers, strict=False):
        for name, value in theirs.items():
            if name not in STAMPED and (name not in part.header or encode(part.header[name]) != encode(value)):
                yield name


def _not_finite(request: PublishRequest, made: Frame) -> dict[str, int]:
    """NaN and infinities in the main picture and in added layers. Other layers may mean them: depth of a sky is one."""
    found: dict[str, int] = {}
    for part in made.parts:
        for name, plane in part.channels.items():
            picture = part is made.main and name in ("R", "G", "B", "A", "Y")
            if picture or name.rpartition(".")[0] in request.added_layers:
                count = _count_not_finite(plane)
                if count:
                    found[name] = count
    return found


def _count_not_finite(plane: NDArray[Any]) -> int:
    """By the exponent's bits, all set: on halves ten times as fast as isfinite."""
    if plane.dtype == np.float16:
        bits = np.ascontiguousarray(plane).view(np.uint16)
        return int(np.count_nonzero((bits & 0x7C00) == 0x7C00))
    return int(np.count_nonzero(~np.isfinite(plane))) if plane.dtype == np.float32 else 0


def _added_planes(made: Frame, layers: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    planes: dict[str, NDArray[np.float32]] = {}
    for layer in layers:
        for part in made.parts:
            if (stored := part.channels.get(f"{layer}.A")) is not None:
                planes[layer] = np.empty(stored.shape, np.float32)
                to_float(stored, planes[layer])
    return planes


def _matte_facts(plane: NDArray[np.float32]) -> MatteFacts:
    # fmin and fmax leave NaN out: it has a validator of its own.
    low, high = float(np.fmin.reduce(plane, axis=None)), float(np.fmax.reduce(plane, axis=None))
    return MatteFacts(low, high, xxhash.xxh3_64_hexdigest(np.ascontiguousarray(plane).data))


def _to_bytes(plane: NDArray[np.float32]) -> Bytes:
    return matte8(plane, plane.shape[0])


def _write_proxies(
    request: PublishRequest,
    maker: ProxyMaker,
    made: Frame,
    mattes: Mapping[str, NDArray[np.float32]],
    folder: Path,
    frame: int,
) -> None:
    """Beauty, and with a matte the matte and the overlay, of the display window: what a viewer shows."""
    assert request.proxies is not None
    height = request.proxies.height
    main = made.main
    rgb = made.rgb()
    if main.data_window != main.display_window:
        rgb = np.stack([place(plane, main.data_window, main.display_window) for plane in rgb])
    beauty = maker.rgb8(rgb, height)
    maker.write(proxy_path(folder, "beauty", frame), beauty)
    if mattes:
        plane = mattes.get("matte", next(iter(mattes.values())))
        matte = matte8(place(plane, main.data_window, main.display_window), height)
        maker.write(proxy_path(folder, "matte", frame), matte)
        maker.write(proxy_path(folder, "overlay", frame), overlay8(beauty, matte))

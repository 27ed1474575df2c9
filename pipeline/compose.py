"""From what a runner made to the frame that is delivered: the plate's own pixels, bit for bit, but where the task changed them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.colorspace import CHROMATICITIES
from pipeline.errors import PublishError
from pipeline.media.exr import Frame, Part, picture_channels
from pipeline.media.exr_header import shift_timecode
from pipeline.media.half import to_half
from pipeline.plate import Plate, Window
from pipeline.tasks.contract import FrameResult

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compose(
    source: Frame,
    result: FrameResult,
    plate: Plate,
    *,
    windows: tuple[Window, Window] | None = None,
    from_frame: int | None = None,
) -> Frame:
    """The delivered frame, in `windows`: data and display window, the plate's where they aren't given.

    `source` is the plate's frame, number `from_frame` where it isn't the result's own; of a frame that the plate hasn't, its
    nearest neighbour, which lends its parts and header: then the picture is all the task's, A is 1 unless the task makes
    one, and other channels are 0.
    New layers are half, in the main part. A layer of the same name that the plate has is replaced whole, in the part where
    it lies. Where the delivered data window goes beyond the plate's, channels that the task doesn't make are 0, A is 1.
    Raises: PublishError (a layer of another size, a picture without R, G and B), PlateError (a value that half can't hold).
    """
    main, at_home = source.main, next(i for i, part in enumerate(source.parts) if part is source.main)
    shift = 0 if from_frame is None else result.frame - from_frame
    made = shift != 0
    if made and result.rgb is None:
        raise PublishError(f"frame {result.frame} isn't in the plate, and the task made no picture of it")
    data, display = windows or (main.data_window, main.display_window)
    # A part beside the picture stays as it is, unless the task fills a layer of it that covers what the picture covered.
    moved = [
        data
        if part is main or (part.data_window == main.data_window and not _layers_of(part).isdisjoint(result.layers))
        else part.data_window
        for part in source.parts
    ]
    channels: list[dict[str, NDArray[Any]]] = []
    for part, window in zip(source.parts, moved, strict=True):
        kept = {n: p for n, p in part.channels.items() if _layer_of(n) not in result.layers}
        if made:
            kept = {n: np.full_like(p, 1 if n == "A" and part is main else 0) for n, p in kept.items()}
        if window != part.data_window:
            kept = {n: _padded(p, part.data_window, window, 1 if n == "A" else 0) for n, p in kept.items()}
        channels.append(kept)
    if result.rgb is not None:
        inside = None if made else _inside(main.data_window, data)
        channels[at_home] |= _changed_picture(channels[at_home], result, inside)
    if result.alpha is not None:
        _check_size("A", result.alpha, data)
        own = channels[at_home].get("A")
        as_float = own is not None and own.dtype == np.float32
        channels[at_home]["A"] = result.alpha.astype(np.float32) if as_float else to_half(result.alpha, channel="A")
    for layer, planes in result.layers.items():
        home = next((i for i, part in enumerate(source.parts) if layer in _layers_of(part)), at_home)
        for short, plane in planes.items():
            full = f"{layer}.{short}"
            _check_size(full, plane, data)
            if moved[home] != data:
                raise PublishError(f"layer {layer} lies in a part of the plate with another window", "rename the layer")
            channels[home][full] = to_half(plane, channel=full)
    return Frame(
        tuple(
            Part(
                name=part.name,
                header=_header(part.header, plate, shift) if part is main else _shifted(part.header, plate, shift),
                channels=kept,
                data_window=window,
                display_window=display,
            )
            for part, kept, window in zip(source.parts, channels, moved, strict=True)
        )
    )


def _layers_of(part: Part) -> set[str]:
    return set(map(_layer_of, part.channels))


def _layer_of(channel: str) -> str:
    return channel.rpartition(".")[0]


def _check_size(name: str, plane: NDArray[Any], window: Window) -> None:
    if plane.shape != (window.height, window.width):
        raise PublishError(
            f"layer {name} is {plane.shape[::-1]}, its place in the plate {(window.width, window.height)} pixels"
        )


def _inside(inner: Window, outer: Window) -> tuple[slice, slice]:
    """Where a window lies in a plane of another, as (rows, columns)."""
    y, x = inner.y_min - outer.y_min, inner.x_min - outer.x_min
    return slice(y, y + inner.height), slice(x, x + inner.width)


def _padded(plane: NDArray[Any], inner: Window, outer: Window, value: int) -> NDArray[Any]:
    out = np.full((outer.height, outer.width), value, plane.dtype)
    out[_inside(inner, outer)] = plane
    return out


def _changed_picture(
    own_planes: Mapping[str, NDArray[Any]], result: FrameResult, inside: tuple[slice, slice] | None
) -> dict[str, NDArray[Any]]:
    """The picture's channels with what the task made of them, each in its own type.

    `inside` is where the plate's own pixels lie; None when there are none. Outside of it everything is the task's.
    """
    assert result.rgb is not None
    names = picture_channels(own_planes)
    if len(set(names)) < 3:
        raise PublishError(
            f"the picture was changed in colour, the plate has only {names[0]}", "give a plate with R, G and B"
        )
    changed = result.changed
    if changed is not None:
        outside = np.ones(changed.shape, np.bool_)
        if inside is not None:
            outside[inside] = False
        changed = changed | outside
    out: dict[str, NDArray[Any]] = {}
    for name, made in zip(names, result.rgb, strict=True):
        own = own_planes[name]
        if made.shape != own.shape:
            raise PublishError(f"the picture is {made.shape[::-1]}, its place in the plate {own.shape[::-1]} pixels")
        wanted = made if changed is None else np.where(changed, made, 0)
        kept = to_half(wanted, channel=name) if own.dtype == np.float16 else wanted.astype(own.dtype)
        out[name] = kept if changed is None else np.where(changed, kept, own)
    return out


def _header(header: Mapping[str, Any], plate: Plate, shift: int) -> dict[str, Any]:
    """The plate's own header, with its rate and colour space said in the standard attributes."""
    out = _shifted(header, plate, shift)
    if plate.rate is not None:
        out.setdefault("framesPerSecond", Fraction(plate.rate.value))
    if out.get("colorInteropID") != plate.colorspace:
        # Silent, or overruled by whoever submitted it: what is delivered must say what it is.
        out["colorInteropID"] = plate.colorspace
        out.pop("chromaticities", None)
    if plate.colorspace in CHROMATICITIES:
        out.setdefault("chromaticities", CHROMATICITIES[plate.colorspace])
    return out


def _shifted(header: Mapping[str, Any], plate: Plate, shift: int) -> dict[str, Any]:
    """A neighbour's header for a frame that many frames on: its timecode goes along."""
    out = dict(header)
    if shift and "timeCode" in out:
        moved = None if plate.rate is None else shift_timecode(out["timeCode"], shift, plate.rate)
        if moved is None:
            del out["timeCode"]
        else:
            out["timeCode"] = moved
    return out

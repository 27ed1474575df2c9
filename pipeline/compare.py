"""Whether two sequences hold the same pixels, and where they don't: by how much, on which frame, at which pixel.

What counts are channels, their types, their windows and their bits: `-0.0` isn't `0.0`, and two NaN are equal when their bits are.
Headers, codecs and the order of channels don't count. Each pair of frames is decoded and compared in a small pool of threads
and only its facts are kept, so a shot of any length needs the memory of a few frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import PlateError
from pipeline.frames import FrameRange
from pipeline.layer import Layer, layers_of
from pipeline.media.exr import Frame, Part, read_frame
from pipeline.media.stream import FrameReader
from pipeline.plate import FramePattern, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = {2: np.uint16, 4: np.uint32}
_STRIP = 128
"""Rows that are looked at together."""
_Key = tuple[str, str]
"""The part's name (empty in a frame of one part), and the layer's."""


@dataclass(frozen=True, slots=True)
class Largest:
    """Where a layer differs the most. `x` and `y` are pixels as the data window counts them, y down."""

    difference: float
    """|after - before|; infinite where only one of them is a finite number, 0 where only bits differ."""
    frame: int
    channel: str
    """Full name."""
    x: int
    y: int
    before: float
    after: float

    def as_json(self) -> dict[str, Any]:
        """Plain values; what isn't finite is the text `nan`, `inf` or `-inf`."""
        return {
            "difference": _number(self.difference),
            "frame": self.frame,
            "channel": self.channel,
            "x": self.x,
            "y": self.y,
            "before": _number(self.before),
            "after": _number(self.after),
        }


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """One layer over all frames that both sequences have it on."""

    layer: str
    """Its label; in frames of several parts after the part's name and a slash."""
    frames_differ: FrameRange
    pixels_differ: int
    """Pixels at which any of its channels differs, over all frames."""
    largest: Largest | None
    """None when every bit is the same."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "layer": self.layer,
            "frames_differ": str(self.frames_differ),
            "pixels_differ": self.pixels_differ,
            "largest": None if self.largest is None else self.largest.as_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two sequences compare. `missing` is what only the first has, `extra` what only the second has."""

    frames: FrameRange
    """Frames of both that could be read."""
    layers: tuple[LayerComparison, ...]
    """Every layer that both have, also those without a difference."""
    frames_differ: FrameRange
    """Frames of both on which a bit, a type, a window or a channel differs."""
    pixels_differ: int
    """Pixels at which any channel of any layer differs, over all frames, inside the windows that both have."""
    missing_frames: FrameRange = field(default_factory=FrameRange)
    extra_frames: FrameRange = field(default_factory=FrameRange)
    missing_channels: Mapping[str, FrameRange] = field(default_factory=dict)
    extra_channels: Mapping[str, FrameRange] = field(default_factory=dict)
    """Full channel name → frames on which only one sequence has it."""
    missing_layers: Mapping[str, FrameRange] = field(default_factory=dict)
    extra_layers: Mapping[str, FrameRange] = field(default_factory=dict)
    """Layer → frames on which only one sequence has any channel of it."""
    types_differ: Mapping[str, FrameRange] = field(default_factory=dict)
    """Full channel name → frames on which it is, say, half in one and float in the other."""
    windows_differ: FrameRange = field(default_factory=FrameRange)
    """Frames whose data or display windows aren't the same; their pixels are compared where both have some."""
    unreadable: Mapping[int, str] = field(default_factory=dict)
    """Frame → why one of its two files can't be read."""

    @property
    def bit_equal(self) -> bool:
        """Whether both hold the same frames, channels, types, windows and bits. False when nothing was compared."""
        return bool(self.frames) and not (
            self.frames_differ or self.missing_frames or self.extra_frames or self.unreadable
        )

    @property
    def largest(self) -> tuple[str, Largest] | None:
        """(layer, where) of the largest difference of all; None when no bit differs."""
        found = [(of.layer, of.largest) for of in self.layers if of.largest is not None]
        return max(found, key=lambda one: one[1].difference, default=None)

    def sentence(self) -> str:
        """What a person wants to know, in one line."""
        if self.bit_equal:
            return f"bit-equal on {len(self.frames)} frames"
        said = []
        if self.largest is not None:
            layer, most = self.largest
            said.append(
                f"largest difference {most.difference:.6g} in {layer} ({most.channel}) on frame {most.frame} "
                f"at x {most.x}, y {most.y}: {most.before:.6g} became {most.after:.6g}"
            )
        if self.frames_differ:
            said.append(f"{len(self.frames_differ)} of {len(self.frames)} frames differ ({self.frames_differ})")
        if self.pixels_differ:
            said.append(f"{self.pixels_differ} pixels differ")
        for what, frames in (("missing", self.missing_frames), ("extra", self.extra_frames)):
            said += [f"{what} frames {frames}"] if frames else []
        for what, channels in (("missing", self.missing_channels), ("extra", self.extra_channels)):
            said += [f"{what} channels {', '.join(channels)}"] if channels else []
        said += [f"channels of another type: {', '.join(self.types_differ)}"] if self.types_differ else []
        said += [f"windows differ on {self.windows_differ}"] if self.windows_differ else []
        said += [f"frame {frame}: {why}" for frame, why in self.unreadable.items()]
        return "; ".join(said) or "there are no frames to compare"

    def as_json(self) -> dict[str, Any]:
        """Plain values, for records and the API."""
        return {
            "bit_equal": self.bit_equal,
            "frames": str(self.frames),
            "frames_differ": str(self.frames_differ),
            "pixels_differ": self.pixels_differ,
            "layers": [layer.as_json() for layer in self.layers],
            "missing_frames": str(self.missing_frames),
            "extra_frames": str(self.extra_frames),
            "missing_channels": {name: str(frames) for name, frames in self.missing_channels.items()},
            "extra_channels": {name: str(frames) for name, frames in self.extra_channels.items()},
            "missing_layers": {name: str(frames) for name, frames in self.missing_layers.items()},
            "extra_layers": {name: str(frames) for name, frames in self.extra_layers.items()},
            "types_differ": {name: str(frames) for name, frames in self.types_differ.items()},
            "windows_differ": str(self.windows_differ),
            "unreadable": {str(frame): why for frame, why in self.unreadable.items()},
            "sentence": self.sentence(),
        }


def files_of(pattern: FramePattern, frames: FrameRange) -> dict[int, Path]:
    """Frame → file, as `compare_sequences` takes a sequence that lies in one folder."""
    return {frame: pattern.path(frame) for frame in frames}


def compare_sequences(
    before: Mapping[int, Path],
    after: Mapping[int, Path],
    *,
    threads: int = 2,
    each: Callable[[int], None] | None = None,
) -> Comparison:
    """Compare two sequences of EXRs, frame by frame. A sequence is frame → file; its files may lie in several folders.

    A file that isn't there makes its frame a missing (or extra) one; one that can't be decoded is told in `unreadable`.
    `each(done)` is called after every frame and may raise to stop. Raises: StorageError, what `each` raises.
    """
    here, there = _present(before), _present(after)
    both = here & there
    tally = _Tally()
    with FrameReader(
        lambda frame: _compare(frame, before[frame], after[frame]),
        both.frames,
        ahead=threads,
        behind=0,
        threads=threads,
    ) as reader:
        for done, frame in enumerate(both, start=1):
            tally.add(reader.get(frame))
            if each is not None:
                each(done)
    return tally.result(missing=here - there, extra=there - here)


def _present(sequence: Mapping[int, Path]) -> FrameRange:
    return FrameRange.of(frame for frame, path in sequence.items() if path.exists())


@dataclass(frozen=True, slots=True)
class _LayerFacts:
    channels: tuple[str, ...]
    pixels: int
    largest: Largest | None


@dataclass(frozen=True, slots=True)
class _FrameFacts:
    """What one pair of frames has to say."""

    frame: int
    fault: str = ""
    layers: Mapping[_Key, _LayerFacts] = field(default_factory=dict)
    pixels: int = 0
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    missing_layers: tuple[str, ...] = ()
    extra_layers: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    windows: bool = False


class _Tally:
    """Gathers frames' facts into one comparison."""

    def __init__(self) -> None:
        self._frames: list[_FrameFacts] = []

    def add(self, facts: _FrameFacts) -> None:
        self._frames.append(facts)

    def result(self, *, missing: FrameRange, extra: FrameRange) -> Comparison:
        read = [facts for facts in self._frames if not facts.fault]
        return Comparison(
            frames=FrameRange.of(facts.frame for facts in read),
            layers=tuple(_over_frames(key, read) for key in dict.fromkeys(k for facts in read for k in facts.layers)),
            frames_differ=FrameRange.of(facts.frame for facts in read if _differs(facts)),
            pixels_differ=sum(facts.pixels for facts in read),
            missing_frames=missing,
            extra_frames=extra,
            missing_channels=_by_name(read, lambda facts: facts.missing),
            extra_channels=_by_name(read, lambda facts: facts.extra),
            missing_layers=_by_name(read, lambda facts: facts.missing_layers),
            extra_layers=_by_name(read, lambda facts: facts.extra_layers),
            types_differ=_by_name(read, lambda facts: facts.types),
            windows_differ=FrameRange.of(facts.frame for facts in read if facts.windows),
            unreadable={facts.frame: facts.fault for facts in self._frames if facts.fault},
        )


def _differs(facts: _FrameFacts) -> bool:
    return bool(facts.pixels or facts.missing or facts.extra or facts.types or facts.windows)


def _over_frames(key: _Key, frames: list[_FrameFacts]) -> LayerComparison:
    here = [(facts.frame, facts.layers[key]) for facts in frames if key in facts.layers]
    channels = tuple(dict.fromkeys(name for _, facts in here for name in facts.channels))
    part, name = key
    return LayerComparison(
        layer=_named(part, Layer(name, channels).label),
        frames_differ=FrameRange.of(frame for frame, facts in here if facts.pixels),
        pixels_differ=sum(facts.pixels for _, facts in here),
        largest=max((f.largest for _, f in here if f.largest), key=lambda found: found.difference, default=None),
    )


def _by_name(frames: list[_FrameFacts], names: Callable[[_FrameFacts], tuple[str, ...]]) -> dict[str, FrameRange]:
    found: dict[str, list[int]] = {}
    for facts in frames:
        for name in names(facts):
            found.setdefault(name, []).append(facts.frame)
    return {name: FrameRange.of(of) for name, of in found.items()}


def _compare(frame: int, before: Path, after: Path) -> _FrameFacts:
    try:
        ours, theirs = _parts(read_frame(before)), _parts(read_frame(after))
    except PlateError as error:
        return _FrameFacts(frame, fault=error.message)
    layers: dict[_Key, _LayerFacts] = {}
    types: list[str] = []
    pixels, windows = 0, False
    for name in (n for n in ours if n in theirs):
        pair = _Pair(frame, ours[name], theirs[name])
        windows = windows or pair.windows_differ
        different: NDArray[np.bool_] | None = None
        for layer in layers_of(n for n in pair.before.channels if n in pair.after.channels):
            facts, mask = pair.layer(layer, types)
            layers[name, layer.name] = facts
            if mask is not None:
                different = mask if different is None else different | mask
        pixels += 0 if different is None else int(np.count_nonzero(different))
    return _FrameFacts(
        frame=frame,
        layers=layers,
        pixels=pixels,
        missing=_channels_without(ours, theirs),
        extra=_channels_without(theirs, ours),
        missing_layers=_layers_without(ours, theirs),
        extra_layers=_layers_without(theirs, ours),
        types=tuple(types),
        windows=windows,
    )


def _parts(frame: Frame) -> dict[str, Part]:
    """A frame's parts by name; the one of a single-part file has none, whatever it is called."""
    if len(frame.parts) == 1:
        return {"": frame.parts[0]}
    return {part.name or str(i): part for i, part in enumerate(frame.parts)}


def _channels_without(of: Mapping[str, Part], other: Mapping[str, Part]) -> tuple[str, ...]:
    """Channels that the other frame hasn't."""
    return tuple(
        _named(part, channel)
        for part, mine in of.items()
        for channel in mine.channels
        if part not in other or channel not in other[part].channels
    )


def _layers_without(of: Mapping[str, Part], other: Mapping[str, Part]) -> tuple[str, ...]:
    """Layers of which the other frame hasn't one channel."""
    return tuple(
        _named(part, layer.label)
        for part, mine in of.items()
        for layer in mine.layers
        if part not in other or not other[part].channels.keys() & set(layer.full_names())
    )


def _named(part: str, name: str) -> str:
    return f"{part}/{name}" if part else name


class _Pair:
    """One part of both frames, seen through the window that both have."""

    def __init__(self, frame: int, before: Part, after: Part) -> None:
        self.frame, self.before, self.after = frame, before, after
        self.windows_differ = (before.data_window, before.display_window) != (after.data_window, after.display_window)
        ours, theirs = before.data_window, after.data_window
        self._x, self._y = max(ours.x_min, theirs.x_min), max(ours.y_min, theirs.y_min)
        self._width = max(0, min(ours.x_max, theirs.x_max) - self._x + 1)
        self._height = max(0, min(ours.y_max, theirs.y_max) - self._y + 1)

    def _common(self, plane: NDArray[Any], window: Window) -> NDArray[Any]:
        left, top = self._x - window.x_min, self._y - window.y_min
        return plane[top : top + self._height, left : left + self._width]

    def layer(self, layer: Layer, types: list[str]) -> tuple[_LayerFacts, NDArray[np.bool_] | None]:
        """One layer's facts, and where it differs (None: nowhere). Channels of another type are added to `types`."""
        different: NDArray[np.bool_] | None = None
        largest: Largest | None = None
        for channel in layer.full_names():
            ours = self._common(self.before.channels[channel], self.before.data_window)
            theirs = self._common(self.after.channels[channel], self.after.data_window)
            if ours.dtype != theirs.dtype:
                types.append(channel)
            mask = _where_different(ours, theirs)
            if mask is None:
                continue
            different = mask if different is None else different | mask
            found = self._largest(channel, ours, theirs, mask)
            if largest is None or found.difference > largest.difference:
                largest = found
        count = 0 if different is None else int(np.count_nonzero(different))
        return _LayerFacts(layer.full_names(), count, largest), different

    def _largest(self, channel: str, ours: NDArray[Any], theirs: NDArray[Any], mask: NDArray[np.bool_]) -> Largest:
        found: Largest | None = None
        # In strips: of a large frame that differs everywhere, doubles of every value would be ten times the frame.
        for top in range(0, mask.shape[0], _STRIP):
            rows, columns = np.nonzero(mask[top : top + _STRIP])
            if not rows.size:
                continue
            a, b = (plane[top : top + _STRIP][rows, columns].astype(np.float64) for plane in (ours, theirs))
            apart = _apart(a, b)
            at = int(np.argmax(apart))
            if found is None or apart[at] > found.difference:
                x, y = self._x + int(columns[at]), self._y + top + int(rows[at])
                found = Largest(float(apart[at]), self.frame, channel, x, y, float(a[at]), float(b[at]))
        assert found is not None  # the mask has a pixel
        return found


def _apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far values are apart. Two NaN, or the same infinity, are alike; a NaN beside a number is as far as can be."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(b - a)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(alike, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _where_different(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where the bits differ, or of two types the values; None when they don't."""
    if ours.dtype == theirs.dtype:
        bits = _BITS[ours.dtype.itemsize]
        mask = np.ascontiguousarray(ours).view(bits) != np.ascontiguousarray(theirs).view(bits)
    else:
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        mask = (a != b) & ~(np.isnan(a) & np.isnan(b))
    return mask if mask.any() else None


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)

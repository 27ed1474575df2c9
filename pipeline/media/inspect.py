"""What a submission must know of a plate and its keys: one decoding pass, every fault at once.

A frame is decoded once for validity, NaN and its hash together; what was found is kept by path, size and time of change,
so that submitting the same plate again costs a look at the folder. Runs where a crash or a memory limit costs a child.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from pipeline.errors import Fault, KeyframeError, PlateError, fault_of
from pipeline.frames import MOST_FRAMES, FrameRange
from pipeline.layer import Layer
from pipeline.media.exr import Frame, pixel_hash
from pipeline.media.files import read_error
from pipeline.media.image import fit_matte, image_info, matte_plane, read_image, source_colorspace
from pipeline.media.sequence import find_sequence
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_FAULTS = 20
"""Frames with a fault of one kind that are named one by one; the others share one line."""
_KEPT_LOOKS = 20_000
_NO_WINDOW = Window(0, 0, 0, 0)
_PICTURE = ("R", "G", "B", "A", "Y")


@dataclass(frozen=True, slots=True)
class PlateInspection:
    """What was found. `plate` is None when not one frame could be read; its frames are those that were asked for and are there.

    `hashes`: frame → `pixel_hash`. `source_colorspace` is what the files are in, `plate.colorspace` what they are worked on in.
    """

    plate: Plate | None = None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()
    hashes: Mapping[int, str] = field(default_factory=dict)
    source_colorspace: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "plate": None if self.plate is None else _plate_json(self.plate),
            "faults": [asdict(fault) for fault in self.faults],
            "warnings": list(self.warnings),
            "hashes": {str(frame): digest for frame, digest in self.hashes.items()},
            "source_colorspace": self.source_colorspace,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlateInspection:
        """The value that `as_json` wrote."""
        return cls(
            plate=None if data["plate"] is None else _plate_from(data["plate"]),
            faults=tuple(Fault(**fault) for fault in data["faults"]),
            warnings=tuple(data["warnings"]),
            hashes={int(frame): digest for frame, digest in data["hashes"].items()},
            source_colorspace=data["source_colorspace"],
        )


@dataclass(frozen=True, slots=True)
class KeyInspection:
    """What was found in a keyframe's file: its faults, the share of pixels above 0.5, and a hash of the matte itself."""

    faults: tuple[Fault, ...] = ()
    coverage: float = 0.0
    hash: str = ""


@dataclass(frozen=True, slots=True)
class _BadPixels:
    channel: str
    count: int
    what: str
    x: int
    y: int

    @property
    def words(self) -> str:
        of = "pixel is" if self.count == 1 else "pixels are"
        return f"channel {self.channel}: {self.count} {of} NaN or infinite, the first ({self.what}) at x {self.x}, y {self.y}"


@dataclass(frozen=True, slots=True)
class _Look:
    """One frame, decoded once."""

    fault: Fault | None = None
    data_window: Window = _NO_WINDOW
    display_window: Window = _NO_WINDOW
    channels: tuple[tuple[str, str], ...] = ()
    layers: tuple[Layer, ...] = ()
    spaces: tuple[str, str] = ("", "")
    rate: FrameRate | None = None
    timecode: str | None = None
    hash: str = ""
    bad: tuple[_BadPixels, ...] = ()


_looks: OrderedDict[tuple[str, int, int, str | None], _Look] = OrderedDict()
_looks_lock = threading.Lock()


def inspect_plate(text: str, *, frames: FrameRange | None, colorspace: str | None, threads: int = 2) -> PlateInspection:
    """Decode the asked frames of a plate (all that are there when `frames` is None) and gather what is wrong with them.

    `text` as for `find_sequence`; `colorspace` is the person's word on what the files are in. Asked frames that are missing
    are a fault, without `frames` every hole between the first and the last is.
    Raises: StorageError (the share is gone: nothing is known about the frames).
    """
    try:
        pattern, available = find_sequence(text)
        wanted = frames if frames is not None else _whole(available, pattern)
    except PlateError as error:
        return PlateInspection(faults=(fault_of(error, "plate"),))
    faults: list[Fault] = []
    if missing := wanted - available:
        faults.append(_missing(pattern, missing, available))
    present = wanted & available
    looks: dict[int, _Look] = {}
    if present:
        with ThreadPoolExecutor(threads, thread_name_prefix="inspect") as pool:
            found = pool.map(lambda frame: _look(pattern.path(frame), colorspace), present)
            looks = dict(zip(present, found, strict=True))
    good = {frame: look for frame, look in looks.items() if look.fault is None}
    faults += _each({frame: look.fault for frame, look in looks.items() if look.fault is not None})
    warnings: list[str] = []
    faults += _bad_pixels(good, warnings)
    faults += _changes(good)
    rate = _rate(good, faults)
    if not good:
        return PlateInspection(faults=tuple(faults), warnings=tuple(warnings))
    first = good[min(good)]
    usual = _usual(good.values(), lambda look: (look.data_window, look.display_window, look.layers))
    plate = Plate(
        pattern=pattern,
        frames=present,
        layers=usual[2],
        data_window=usual[0],
        display_window=usual[1],
        colorspace=first.spaces[1],
        rate=rate,
        timecode=first.timecode if min(good) == present.first else None,
    )
    hashes = {frame: look.hash for frame, look in good.items()}
    return PlateInspection(plate, tuple(faults), tuple(warnings), hashes, first.spaces[0])


def _whole(available: FrameRange, pattern: FramePattern) -> FrameRange:
    if available.last - available.first >= MOST_FRAMES:
        raise PlateError(
            f"{pattern} goes from frame {available.first} to {available.last}",
            "that is no shot: give the frames that are meant, or move the stray file away",
        )
    return FrameRange.span(available.first, available.last)


def _missing(pattern: FramePattern, missing: FrameRange, available: FrameRange) -> Fault:
    many = "frame" if len(missing) == 1 else "frames"
    return Fault(
        "plate",
        f"{many} {missing} of {pattern} {'is' if len(missing) == 1 else 'are'} missing",
        f"on disk are {available}; render or copy the rest, or ask for fewer frames",
    )


def _look(path: Path, colorspace: str | None) -> _Look:
    """Decode a frame, or remember what was seen the last time. Raises: StorageError."""
    try:
        stat = path.stat()
    except OSError as error:
        failed = read_error(error, path)
        if isinstance(failed, PlateError):
            return _Look(fault=fault_of(failed, ""))
        raise failed from error
    key = (str(path), stat.st_size, stat.st_mtime_ns, colorspace)
    with _looks_lock:
        if known := _looks.get(key):
            _looks.move_to_end(key)
            return known
    try:
        look = _decoded(path, colorspace)
    except PlateError as error:
        look = _Look(fault=fault_of(error, ""))
    with _looks_lock:
        _looks[key] = look
        while len(_looks) > _KEPT_LOOKS:
            _looks.popitem(last=False)
    return look


def _decoded(path: Path, colorspace: str | None) -> _Look:
    info = image_info(path)
    spaces = source_colorspace(info, colorspace)
    frame = read_image(path, colorspace=spaces[0])
    main = frame.main
    return _Look(
        data_window=main.data_window,
        display_window=main.display_window,
        channels=tuple((name, str(plane.dtype)) for part in frame.parts for name, plane in part.channels.items()),
        layers=info.layers,
        spaces=spaces,
        rate=info.rate,
        timecode=info.timecode,
        hash=pixel_hash(frame),
        bad=tuple(_bad_in(frame)),
    )


_EXPONENTS: dict[np.dtype[Any], tuple[Any, int]] = {
    np.dtype(np.float16): (np.uint16, 0x7C00),
    np.dtype(np.float32): (np.uint32, 0x7F800000),
}


def _bad_in(frame: Frame) -> Iterable[_BadPixels]:
    for part in frame.parts:
        for name, plane in part.channels.items():
            if plane.dtype not in _EXPONENTS:
                continue
            # NaN and infinity are the values with every bit of the exponent set: on integers NumPy tests that vectorised.
            integer, exponent = _EXPONENTS[plane.dtype]
            bad: NDArray[np.bool_] = (plane.view(integer) & integer(exponent)) == integer(exponent)
            if bad.any():
                y, x = np.unravel_index(int(bad.argmax()), bad.shape)
                window = part.data_window
                yield _BadPixels(
                    name, int(bad.sum()), f"{plane[y, x]:.1f}", int(x) + window.x_min, int(y) + window.y_min
                )


def _bad_pixels(good: Mapping[int, _Look], warnings: list[str]) -> list[Fault]:
    """Faults for the picture's channels; depth and other layers may hold infinities, so they make a warning."""
    faults: dict[int, Fault] = {}
    elsewhere: dict[str, list[int]] = {}
    for frame, look in good.items():
        for bad in look.bad:
            if bad.channel in _PICTURE:
                more = len([b for b in look.bad if b.channel in _PICTURE]) - 1
                also = f" (and {more} more channels)" if more else ""
                hint = "clean the plate, or render it again: a model spreads one bad pixel over the picture"
                faults.setdefault(frame, Fault("", bad.words + also, hint))
            else:
                elsewhere.setdefault(bad.channel, []).append(frame)
    for channel, frames in elsewhere.items():
        warnings.append(
            f"plate: channel {channel} has NaN or infinite pixels on {_frames(frames)}; they are kept as they are"
        )
    return _each(faults)


def _each(faults: Mapping[int, Fault]) -> list[Fault]:
    """One fault a frame, the first few by name."""
    out: list[Fault] = []
    frames = sorted(faults)
    for frame in frames[:_MOST_FAULTS]:
        fault = faults[frame]
        out.append(Fault(f"plate frame {frame}", fault.message, fault.hint))
    if rest := frames[_MOST_FAULTS:]:
        out.append(Fault(f"plate {_frames(rest)}", f"the same kind of fault on {len(rest)} more", faults[rest[0]].hint))
    return out


def _frames(frames: Iterable[int]) -> str:
    found = FrameRange.of(frames)
    return f"{'frame' if len(found) == 1 else 'frames'} {found}"


def _usual(looks: Iterable[_Look], value: Callable[[_Look], Any]) -> Any:
    return Counter(value(look) for look in looks).most_common(1)[0][0]


def _changes(good: Mapping[int, _Look]) -> list[Fault]:
    """Frames whose size, windows, channels or colour space are not those of most frames."""
    faults: list[Fault] = []
    if not good:
        return faults
    same = "every frame of a plate has the same format: render the odd ones again, or submit them apart"
    checks: Sequence[tuple[str, Callable[[_Look], Any], Callable[[Any], str]]] = (
        ("size", lambda k: (k.display_window.width, k.display_window.height), lambda v: f"{v[0]}×{v[1]}"),
        ("display window", lambda k: k.display_window, lambda v: str(v.as_list())),
        ("data window", lambda k: k.data_window, lambda v: str(v.as_list())),
        ("channels", lambda k: k.channels, lambda v: ", ".join(f"{name} {kind}" for name, kind in v)),
        ("colour space", lambda k: k.spaces[0], str),
    )
    told: set[int] = set()
    for what, value, words in checks:
        usual = _usual(good.values(), value)
        odd: dict[Any, list[int]] = {}
        for frame, look in good.items():
            if value(look) != usual and frame not in told:
                odd.setdefault(value(look), []).append(frame)
        for found, frames in odd.items():
            told.update(frames)
            faults.append(
                Fault(f"plate {_frames(frames)}", f"{what} changes: {words(found)} instead of {words(usual)}", same)
            )
    return faults


def _rate(good: Mapping[int, _Look], faults: list[Fault]) -> FrameRate | None:
    """The plate's one rate; frames that don't say are passed over."""
    rates = Counter(look.rate for look in good.values() if look.rate is not None)
    if len(rates) > 1:
        usual = rates.most_common(1)[0][0]
        odd = [frame for frame, look in good.items() if look.rate not in (None, usual)]
        others = ", ".join(str(rate) for rate in rates if rate != usual)
        faults.append(
            Fault(
                f"plate {_frames(odd)}", f"rate changes: {others} instead of {usual}", "write one rate into every frame"
            )
        )
    return rates.most_common(1)[0][0] if rates else None


def inspect_key(path: Path | str, *, window: Window, display: Window) -> KeyInspection:
    """Look at a keyframe's matte, as `read_matte` would give it for a plate with this data window and display window.

    Raises: StorageError.
    """
    try:
        plane, data, own_display = matte_plane(Path(path))
        bad = ~np.isfinite(plane)
        if bad.any():
            y, x = np.argwhere(bad)[0]
            raise KeyframeError(
                f"{int(bad.sum())} pixels are NaN or infinite, the first at x {x}, y {y}", "export the matte again"
            )
        return covering(np.clip(fit_matte(plane, data, own_display, window=window, display=display), 0, 1))
    except (PlateError, KeyframeError) as error:
        return KeyInspection(faults=(fault_of(error, "key"),))


def covering(matte: NDArray[np.float32]) -> KeyInspection:
    """What a key's matte covers, (height, width) 0 … 1. Raises: KeyframeError (a matte of nothing)."""
    coverage = float((matte > 0.5).mean())
    if coverage == 0:
        raise KeyframeError(
            f"is empty: no pixel is above 0.5, the highest is {float(matte.max()):.3g}",
            "draw the object's shape in white; leave a frame out where it isn't seen",
        )
    return KeyInspection((), coverage, xxhash.xxh3_128(np.ascontiguousarray(matte).data).hexdigest())


def _plate_json(plate: Plate) -> dict[str, Any]:
    return {
        "pattern": str(plate.pattern),
        "frames": str(plate.frames),
        "layers": [[layer.name, list(layer.channels), layer.part] for layer in plate.layers],
        "data_window": plate.data_window.as_list(),
        "display_window": plate.display_window.as_list(),
        "colorspace": plate.colorspace,
        "rate": None if plate.rate is None else str(plate.rate),
        "timecode": plate.timecode,
    }


def _plate_from(data: Mapping[str, Any]) -> Plate:
    pattern = FramePattern.parse(data["pattern"])
    if pattern is None:
        raise ValueError(f"{data['pattern']!r} is no pattern")
    return Plate(
        pattern=pattern,
        frames=FrameRange.parse(data["frames"]),
        layers=tuple(Layer(name, tuple(channels), part) for name, channels, part in data["layers"]),
        data_window=Window(*data["data_window"]),
        display_window=Window(*data["display_window"]),
        colorspace=data["colorspace"],
        rate=None if data["rate"] is None else FrameRate.of(data["rate"]),
        timecode=data["timecode"],
    )

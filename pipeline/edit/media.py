"""What a clip's media reference says: where the frames are, which numbers they carry, and how a source range reads in them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

import opentimelineio as otio

from pipeline.edit import dialects
from pipeline.edit.timing import frames, nominal, rate_of

_DRIVE = re.compile(r"/[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Media:
    """A clip's active media and its frame numbers.

    A media time of `origin` (in frames at `rate`) is frame number `base`: the file number for sequences, the timecode frame
    for movies. `written_rate` is the rate as the file has it, `rate` what it stands for. `count` frames are available;
    None when the file doesn't say. `step` is 2 for a sequence shot on twos.
    """

    address: str
    written_rate: float
    origin: Fraction = Fraction(0)
    base: int = 0
    count: int | None = None
    step: int = 1
    still: bool = False
    labels: bool = False
    """A version of ours, whose clip's range was found to name frame numbers at another rate."""
    warnings: tuple[str, ...] = ()

    @property
    def rate(self) -> Fraction:
        """Frames a second, exact."""
        return rate_of(self.written_rate, "media")

    def number(self, position: Fraction) -> int:
        """The frame number at a media position (frames at `rate`)."""
        return self.number_at(math.floor(position - self.origin))

    def number_at(self, index: int) -> int:
        """The frame number that is on screen `index` frames after the media's first."""
        return self.base + index - index % self.step

    @property
    def first(self) -> int | None:
        """The lowest frame number there is, or None when unknown."""
        return None if self.count is None else self.base

    @property
    def last(self) -> int | None:
        """The highest frame number there is, or None when unknown."""
        return None if self.count is None else self.number(self.origin + self.count - 1)

    def held(self, position: Fraction, played: Fraction, step: Fraction) -> int:
        """How much of `played` record frames from `position` on the media has: what tells two readings of a range apart."""
        if self.count is None:
            return 0
        low = max(position, self.origin)
        high = min(position + played * max(step, Fraction(1, 1000)), self.origin + self.count)
        return max(0, math.floor(high - low))


def path_of_url(url: str) -> str:
    """A `file://` address as a path, percent-encoding decoded; anything else as it stands. Nothing is checked: callers own roots."""
    if not url.lower().startswith("file://"):
        return url
    host, slash, path = url[7:].partition("/")
    path = unquote(slash + path)
    if _DRIVE.match(path):
        return path[1:]
    return path if host.lower() in {"", "localhost"} else f"//{unquote(host)}{path}"


def media_of(clip: Any) -> Media:
    """The active media of a clip. Raises: EditError (rates or times that are no numbers)."""
    what = f"clip {clip.name!r}"
    reference = clip.media_reference
    warnings: list[str] = []
    keys = list(clip.media_references())
    if len({_address(clip, one, [])[0] for one in clip.media_references().values()}) > 1:
        warnings.append(f"it has {len(keys)} media ({', '.join(keys)}); {clip.active_media_reference_key!r} is used")
    if reference is None:
        warnings.append(f"its active media key {clip.active_media_reference_key!r} names no media")
        return Media("", _clip_rate(clip, what), warnings=tuple(warnings))
    if isinstance(reference, otio.schema.ImageSequenceReference):
        return _sequence(clip, reference, what, warnings)
    address, low, high = _address(clip, reference, warnings)
    available = _available(reference)
    if available is None:
        warnings.append("its media doesn't say how long it is, so no missing frame can be known")
        rate = _clip_rate(clip, what)
        if low is None or high is None:
            return Media(address, rate, warnings=tuple(warnings))
        return Media(address, rate, Fraction(low), low, high - low + 1, warnings=tuple(warnings[:-1]))
    rate = float(available.start_time.rate)
    rate_of(rate, what)
    origin = frames(available.start_time, rate, what)
    count = math.floor(frames(available.duration, rate, what))
    still = dialects.is_still(address or str(reference.name), count)
    base = low if low is not None else round(origin)
    return Media(address, rate, origin, base, count, still=still, warnings=tuple(warnings))


def _sequence(clip: Any, reference: Any, what: str, warnings: list[str]) -> Media:
    address = _sequence_address(reference)
    step = max(1, int(reference.frame_step))
    available = _available(reference)
    own = float(reference.rate) if reference.rate > 1 else None  # 1 is the library's default, not a rate
    if own is not None:
        rate_of(own, what)
    if step > 1:
        warnings.append(f"its sequence has one file every {step} frames")
    if available is None:
        warnings.append("its sequence has no available range: the source range is read as file numbers")
        return Media(address, own or _clip_rate(clip, what), step=step, warnings=tuple(warnings))
    rate = float(available.start_time.rate)
    if own is not None and nominal(rate_of(own, what)) != nominal(rate_of(rate, what)):
        rate = own
    origin = frames(available.start_time, rate, what)
    count = math.floor(frames(available.duration, rate, what))
    ours = reference.metadata.get("platewright")
    labels = isinstance(ours, Mapping) and ours.get("reads_as") == "labels"
    return Media(
        address, rate, origin, int(reference.start_frame), count, step, labels=labels, warnings=tuple(warnings)
    )


def _available(reference: Any) -> Any | None:
    """The reference's range, or None when it has none or one of no length."""
    available = reference.available_range
    return None if available is None or not available.duration.value > 0 else available


def _clip_rate(clip: Any, what: str) -> float:
    if clip.source_range is None:
        return 24.0
    rate_of(clip.source_range.duration.rate, what)
    return float(clip.source_range.duration.rate)


def _sequence_address(reference: Any) -> str:
    base = str(reference.target_url_base or "")
    hashes = "#" * max(1, int(reference.frame_zero_padding))
    names = str(reference.name_prefix), str(reference.name_suffix)
    if base.lower().startswith("file://"):
        base, names = path_of_url(base), (unquote(names[0]), unquote(names[1]))
    slash = "" if not base or base.endswith(("/", "\\")) else "/"
    return f"{base}{slash}{names[0]}{hashes}{names[1]}"


def _address(clip: Any, reference: Any, warnings: list[str]) -> tuple[str, int | None, int | None]:
    """The media's path or name, and the numbers in a bracketed name."""
    if isinstance(reference, otio.schema.ImageSequenceReference):
        return _sequence_address(reference), None, None
    if isinstance(reference, otio.schema.ExternalReference) and reference.target_url:
        return dialects.numbered_files(path_of_url(str(reference.target_url)))
    if isinstance(reference, otio.schema.GeneratorReference):
        warnings.append("it is made by the editing system and has no media: give its frames as a plate")
    else:
        warnings.append("its media is missing or offline: relink it, or give its frames as a plate")
    return str(reference.name or "") or dialects.reel_name(clip.metadata), None, None

"""What each editing system writes differently, one small function each. Only differences seen in real exports stand here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

_TIMECODE = re.compile(r"\b\d{2}:\d{2}:\d{2}([:;])(\d{2})\b")
_EVENT = re.compile(r"(\s*\d+\s+\S+\s+\S+\s+C\s+)(\S+)\s+(\S+)\s+(\S+\s+\S+)\s*$")
_M2 = re.compile(r"\s*M2\s+.*?\s(-?\d+(?:\.\d+)?)\s+\d{2}:\d{2}:\d{2}[:;]\d{2}\s*$")
_EDL_RATES = (24, 25, 30, 50, 60)
_STILLS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".dpx", ".psd", ".tga", ".bmp", ".gif", ".hdr", ".webp"}
_BRACKETS = re.compile(r"\[(\d+)-(\d+)\](?=\.\w+$)")
_PRINTF = re.compile(r"%0?(\d*)d(?=\.\w+$)")


@dataclass(frozen=True, slots=True)
class EdlCounting:
    """How a CMX 3600 list counts frames; `note` says what had to be assumed."""

    rate: Fraction
    drop_frame: bool
    note: str


def edl_counting(text: str) -> EdlCounting:
    """CMX 3600 names no rate: the lowest that every timecode of the list fits.

    A semicolon before the frames, or `FCM: DROP FRAME` and nothing else, is 30000/1001 (60000/1001 when frames go past
    29): drop-frame counting exists for nothing else.
    """
    found = _TIMECODE.findall(text)
    highest = max((int(frame) for _, frame in found), default=0)
    modes = set(re.findall(r"^FCM:\s*(NON-DROP|DROP)", text, re.MULTILINE))
    if any(mark == ";" for mark, _ in found) or modes == {"DROP"}:
        rate = Fraction(60000 if highest >= 30 else 30000, 1001)
        note = f"an EDL names no frame rate: {float(rate):.2f} is taken, since it counts drop-frame"
        return EdlCounting(rate, True, note)
    whole = next((r for r in _EDL_RATES if highest < r), _EDL_RATES[-1])
    why = "its timecodes fit that" if whole == _EDL_RATES[0] else f"its timecodes reach frame {highest}"
    return EdlCounting(Fraction(whole), False, f"an EDL names no frame rate: {whole} is taken, since {why}")


def edl_for_reader(text: str, counting: EdlCounting, rate: Fraction) -> str:
    """The list as the CMX 3600 reader needs it, which otherwise loses frames without a word.

    It counts drop-frame only by semicolons, and drops a speed line (`M2`) whose event is as long in source as in record:
    a plain reverse. A source out equal to the source in makes it read the line; it takes the length from the record side.
    """
    if counting.drop_frame:
        text = re.sub(r"\b(\d{2}:\d{2}:\d{2}):(\d{2})\b", r"\1;\2", text)
    lines = text.splitlines()
    for i, line in enumerate(lines):
        speed = _M2.match(line)
        if speed is None or abs(Fraction(speed[1]) - rate) < Fraction(1, 10):
            continue
        at = next((j for j in range(i - 1, -1, -1) if _EVENT.match(lines[j])), None)
        event = None if at is None else _EVENT.match(lines[at])
        if at is not None and event is not None:
            lines[at] = f"{event[1]}{event[2]} {event[2]} {event[4]}"
    return "\n".join(lines) + "\n"


def record_placement(start: Fraction, duration: Fraction, available: Fraction) -> Fraction:
    """CMX 3600 lists come in with the record start as a *negative* track source range: placement, not a trim.

    All in seconds. Returns how far the track is moved right; 0 when the range is a real trim.
    """
    disjoint = start + duration <= 0 or start >= available
    return -start if start < 0 and (duration == available or disjoint) else Fraction(0)


def record_multiple(timeline_rate: Fraction | None, clip_rate: Fraction) -> int:
    """Premiere writes a clip's range at half the timeline's rate (15 in 30): how many record frames one clip frame is."""
    if timeline_rate is None or timeline_rate <= clip_rate:
        return 1
    ratio = timeline_rate / clip_rate
    return int(ratio) if ratio.denominator == 1 else 1


def labels_fit_better(by_seconds: int, by_label: int) -> bool:
    """Resolve rescales a source range to the timeline's rate; Hiero and Premiere keep the frame *numbers* and change the rate.

    The arguments count the played frames that the media has under either reading; on a tie, OpenTimelineIO's own, seconds.
    """
    return by_label > by_seconds


def fcp7_speed(effect: Any) -> str | None:
    """FCP 7 XML's speed filter, which no adapter turns into a time effect: its words when it changes anything, else None."""
    data = effect.metadata.get("fcp_xml")
    if not isinstance(data, Mapping) or str(data.get("effectid", "")).lower() != "timeremap":
        return None
    parameters = data.get("parameter", [])
    found: dict[str, str] = {}
    for one in [parameters] if isinstance(parameters, Mapping) else list(parameters):
        if isinstance(one, Mapping):
            found[str(one.get("parameterid"))] = str(one.get("value"))
    plain = found.get("speed") in {"100", "100.0"} and found.get("variablespeed", "0") in {"0", "FALSE", "None"}
    if plain and found.get("reverse", "FALSE") in {"0", "FALSE", "None"}:
        return None
    return f"FCP 7 speed filter ({found.get('speed', 'no speed')})"


def is_still(address: str, available_frames: int | None) -> bool:
    """Resolve writes a picture held for any time as one available frame: it's a hold, not a request for more frames."""
    return available_frames == 1 and PurePosixPath(address.replace("\\", "/")).suffix.lower() in _STILLS


def numbered_files(address: str) -> tuple[str, int | None, int | None]:
    """Resolve and Hiero name a sequence as one file, `sh010.[1001-1048].exr` or `sh010.%04d.exr`.

    Returns the `####` pattern and the brackets' first and last number; the address as it was when it is no sequence.
    """
    if match := _BRACKETS.search(address):
        return address[: match.start()] + "#" * len(match[1]) + address[match.end() :], int(match[1]), int(match[2])
    if match := _PRINTF.search(address):
        return address[: match.start()] + "#" * int(match[1] or 1) + address[match.end() :], None, None
    return address, None, None


def reel_name(metadata: Mapping[str, Any]) -> str:
    """A CMX 3600 reel, the only thing such a list says of its media. Eight characters: a name, no identity."""
    data = metadata.get("cmx_3600")
    return str(data.get("reel") or "") if isinstance(data, Mapping) else ""


def shot_name(metadata: Mapping[str, Any]) -> str | None:
    """The shot that a clip's metadata names, where a known key does: ours, a plain `shot`, or ShotGrid's."""
    for key in ("platewright", "shotgrid", "shotgun", "SG"):
        data = metadata.get(key)
        if isinstance(data, Mapping) and (name := _name_in(data.get("shot"))):
            return name
    return _name_in(metadata.get("shot"))


def _name_in(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("code") or value.get("name")
    return value if isinstance(value, str) and value.strip() else None


def older_markers(value: Any) -> Any:
    """Timelines of newer libraries (Premiere's OTIO beta) for this one: `Marker.3` holds a colour object, `Marker.2` its name.

    Takes and returns parsed JSON; nothing that places a frame is touched.
    """
    if isinstance(value, list):
        return [older_markers(one) for one in value]
    if not isinstance(value, dict):
        return value
    out = {key: older_markers(one) for key, one in value.items()}
    if out.get("OTIO_SCHEMA") == "Marker.3":
        colour = out.get("color")
        name = colour.get("name") if isinstance(colour, dict) else colour
        out |= {"OTIO_SCHEMA": "Marker.2", "color": str(name or "RED").upper()}
    return out

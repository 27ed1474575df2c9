"""Writes a published version back into a copy of the cut, as one more media reference of its clip.

Nothing else of the timeline changes: source ranges, retimes and the earlier media stay, so the clip plays the same frames, now of
the version. Our data lies in metadata; no schema of our own is declared, so the file reads without this product.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import opentimelineio as otio

from pipeline.edit.files import NOTE
from pipeline.edit.media import Media, media_of
from pipeline.edit.otio_in import find_place, reads_as_labels
from pipeline.errors import EditError, StorageError
from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.version import Version

SCHEMA = "platewright.version/1"
KEY = "platewright"


def add_version(
    timeline: Any,
    clip_name: str | None,
    *,
    version: Version,
    frames: FrameRange,
    rate: FrameRate,
    record: Mapping[str, Any],
) -> Any:
    """A copy of `timeline` whose clip `clip_name` (or `name#2`) plays the version.

    `frames` are the published files' numbers, which are those of the media that the clip played before. The version becomes the
    active media under the key `platewright`; the media before stays under its own key, an earlier version under its name.
    `record` is plain JSON and is kept in the new reference's metadata, beside what names the version.
    Raises: EditError (unknown or ambiguous clip, no frames, another rate than the media's).
    """
    if not frames.frames:
        raise EditError(f"{version.name} has no frames", "publish at least one")
    copy = timeline.deepcopy()
    place, context = find_place(copy, clip_name)
    clip = place.clip
    media = media_of(clip)
    if rate.value != media.rate:
        raise EditError(
            f"{version.name} is at {rate} frames a second, its clip {context.address!r} at {context.rate}",
            "publish it at the rate of the cut's media",
        )
    # The choice between seconds and numbers hangs on what the media has, and a version has less: so it is said.
    reading = {"reads_as": "labels"} if reads_as_labels(clip, media) else {}
    references = dict(clip.media_references())
    before = str(clip.active_media_reference_key)
    if KEY in references:
        earlier = references.pop(KEY)
        before_name = str(earlier.name or "platewright earlier")
        references[before_name] = earlier
        before = before_name if before == KEY else before
    references[KEY] = _reference(version, frames, media)
    references[KEY].metadata[KEY] = {**_plain(record), **_identity(version, frames), **reading, "replaces": before}
    clip.set_media_references(references, KEY)
    kept = clip.metadata.get(KEY)
    clip.metadata[KEY] = {**(dict(kept) if isinstance(kept, Mapping) else {}), **_identity(version, frames)}
    if NOTE in copy.metadata:
        del copy.metadata[NOTE]
    return copy


def _identity(version: Version, frames: FrameRange) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": version.label,
        "name": version.name,
        "product": version.product,
        "frames": str(frames),
        "address": str(version.shot),
    }


def _reference(version: Version, frames: FrameRange, media: Media) -> Any:
    """The files of a version, their available range in the same media time as what the clip played before."""
    pattern = version.pattern
    step = _step(frames)
    start = media.origin + frames.first - media.base
    available = otio.opentime.TimeRange(
        otio.opentime.RationalTime(float(start), media.written_rate),
        otio.opentime.RationalTime(frames.last - frames.first + step, media.written_rate),
    )
    if media.still and len(frames) == 1:
        # A sequence of one file would ask for more frames; one picture is held, as the one before was.
        out = otio.schema.ExternalReference(pattern.path(frames.first).as_posix(), available)
    else:
        out = otio.schema.ImageSequenceReference(
            target_url_base=pattern.folder.as_posix() + "/",
            name_prefix=pattern.head,
            name_suffix=pattern.tail,
            start_frame=frames.first,
            frame_step=step,
            rate=media.written_rate,
            frame_zero_padding=pattern.padding,
            available_range=available,
        )
    out.name = version.name
    return out


def _step(frames: FrameRange) -> int:
    """The one distance between all frames, else 1: then the range has gaps, which its metadata tells."""
    numbers = frames.frames
    steps = {b - a for a, b in pairwise(numbers)}
    return steps.pop() if len(steps) == 1 else 1


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as OpenTimelineIO's metadata takes it. Raises: EditError (a value that is no plain JSON)."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        out[str(key)] = _plain_value(value, str(key))
    return out


def _plain_value(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain_value(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(one, where) for one in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise EditError(
        f"record {where!r}: {type(value).__name__} is no plain JSON", "give text, numbers, lists or objects"
    )


def write_timeline(timeline: Any, path: Path | str) -> Path:
    """Write a timeline as `.otio`: whole, or not at all.

    Raises: EditError (another ending), StorageError (the folder can't be written or is full).
    """
    path = Path(path)
    if path.suffix.lower() != ".otio":
        raise EditError(f"{path}: a cut is written back as .otio", "name the file so")
    text = otio.adapters.write_to_string(timeline, "otio_json")
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as out:
            temporary = out.name
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise StorageError(f"{path}: {error.strerror or error}", "check the folder and its free space") from None
    return path

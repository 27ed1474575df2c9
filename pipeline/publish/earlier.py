"""Frames of earlier versions, by content key: what need not be made again is linked, not copied."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.media.exr import pixel_hash, read_frame
from pipeline.version import Version

_LOOK_BACK = 20
"""Versions before this one that are looked at."""
_NO_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
)


@dataclass(frozen=True, slots=True)
class EarlierFrame:
    """A published frame: its file, what its pixels were, its measures, and what its task had made."""

    path: Path
    digest: str
    quality: Mapping[str, float]
    layers: tuple[str, ...]
    changes_picture: bool
    makes_alpha: bool

    def is_whole(self) -> bool:
        """Whether the file is still what was published."""
        try:
            return pixel_hash(read_frame(self.path)) == self.digest
        except PipelineError:
            return False

    def take_over(self, target: Path) -> bool:
        """Make `target` this frame, by a hard link where that can be. False when the file isn't what was published."""
        try:
            if not self.is_whole():
                return False
            with contextlib.suppress(FileNotFoundError):
                target.unlink()
            try:
                os.link(self.path, target)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                shutil.copyfile(self.path, target)
        except FileNotFoundError:
            return False
        return True


def earlier_frames(version: Version) -> dict[str, EarlierFrame]:
    """Content key → frame, of the versions of this shot and product that were published before. The newest counts.

    Told by the sidecars; one that is gone or broken is passed over.
    """
    found: dict[str, EarlierFrame] = {}
    for number in range(version.number - 1, max(0, version.number - 1 - _LOOK_BACK), -1):
        label = f"v{number:03d}"
        folder = Path(label.join(str(version.folder).rsplit(version.label, 1)))
        name = label.join(version.name.rsplit(version.label, 1))
        try:
            record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            before = _of_record(record, Version(version.shot, version.product, number, name, folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        found = before | found
    return found


def _of_record(record: Mapping[str, Any], version: Version) -> dict[str, EarlierFrame]:
    content = record["content"]
    measures = {entry["frame"]: entry for entry in record["report"]["frames"]}
    return {
        key: EarlierFrame(
            path=version.pattern.path(int(frame)),
            digest=content["frames"][frame],
            quality={n: v for n, v in measures[int(frame)].items() if n != "frame" and isinstance(v, float | int)},
            layers=tuple(content["made"]["layers"]),
            changes_picture=bool(content["made"]["changes_picture"]),
            makes_alpha=bool(content["made"]["makes_alpha"]),
        )
        for frame, key in content.get("keys", {}).items()
    }

"""Which pictures a job's contact sheet shows: each published take, on frames spread over the range."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from farm.inspector import Inspector
from farm.records import JobDetail, VersionView
from farm.states import VersionState
from pipeline.errors import NotFoundError
from pipeline.frames import FrameRange
from pipeline.publish.values import proxy_path

_COLUMNS = 5


def contact_sheet(detail: JobDetail, inspector: Inspector, folder: Path) -> Path:
    """The sheet of a job's published takes, made anew only when they changed. It lies in `folder`.

    Raises: NotFoundError (nothing is published yet), PlateError, StorageError.
    """
    published = {v.take: v for v in detail.job.versions if v.state is VersionState.PUBLISHED}
    if not published:
        raise NotFoundError(f"job {detail.job.id} has published nothing yet")
    frames = _spread(FrameRange.parse(next(iter(published.values())).frames))
    rows: list[dict[str, Any]] = [
        {
            "title": f"{take.name}   {published[take.take].name.rsplit('_', 1)[-1]}   seed {take.seed}",
            "pictures": [_picture(published[take.take], frame) for frame in frames],
        }
        for take in detail.takes
        if take.take in published
    ]
    labels = [str(frame) for frame in frames]
    name = hashlib.sha256(json.dumps([labels, rows]).encode()).hexdigest()[:24]
    path = folder / f"{name}.jpg"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        inspector.call("sheet", {"path": str(path), "labels": labels, "rows": rows})
    return path


def _spread(frames: FrameRange) -> list[int]:
    every = [*frames]
    count = min(_COLUMNS, len(every))
    return [every[round(i * (len(every) - 1) / max(1, count - 1))] for i in range(count)]


def _picture(version: VersionView, frame: int) -> str | None:
    """The overlay where there is a matte, else the picture; only what really lies in the version's folder."""
    folder = Path(version.folder)
    for kind in ("overlay", "beauty"):
        path = proxy_path(folder, kind, frame)
        if path.is_file() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            return str(path)
    return None

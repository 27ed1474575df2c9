"""All files of a set of shapes, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import StorageError
from pipeline.shapes import blender, neutral, nuke, svg
from pipeline.shapes.values import ShapeSet

WRITERS: dict[str, Callable[[ShapeSet], str]] = {
    ".nk": nuke.write,
    ".json": neutral.write,
    ".blender.json": blender.write,
    ".svg": svg.write,
}
"""Ending of a file → what makes its text."""


def write_all(shapes: ShapeSet, folder: Path, stem: str) -> list[Path]:
    """Write `stem` with each ending into `folder`, which is made when absent; each file appears whole or not at all.

    Raises: StorageError.
    """
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, writer in WRITERS.items():
            path = folder / f"{stem}{ending}"
            unfinished = path.with_name(f".{path.name}.part")
            unfinished.write_text(writer(shapes), encoding="utf-8")
            unfinished.replace(path)
            made.append(path)
    except OSError as error:
        raise StorageError(f"shapes can't be written to {folder}: {error.strerror}", "check the disk") from error
    return made

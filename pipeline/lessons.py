"""What is to be learned from, or added to the registry, looked at on disk before anything runs. Faults are gathered, not raised.

Runs in the child that reads strangers' files (`farm/inspector.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, PipelineError, PlateError
from pipeline.frames import FrameRange
from pipeline.jobs.spec import FaultText, PlateSpec
from pipeline.jobs.training import AskedLesson, SeenLesson
from pipeline.media.inspect import inspect_plate
from pipeline.media.sequence import find_sequence
from pipeline.models.facts import WORDS, ModelFacts
from pipeline.models.files import check_sha256
from pipeline.models.inspect import inspect_lora, inspect_model, recognise
from pipeline.paths import allowed_path

_DECODED = 3
"""Frames of a version that are decoded: all were when it was published, and a version never changes."""


def look_at_lessons(asked: Sequence[AskedLesson]) -> list[SeenLesson]:
    """Each version's plate: whether every frame is there, and some of them can be read."""
    return [_look(one) for one in asked]


def _look(one: AskedLesson) -> SeenLesson:
    try:
        frames = FrameRange.parse(one.frames)
        _, available = find_sequence(one.pattern)
        if lacking := frames - available:
            raise PlateError(
                f"{one.pattern} lacks the frames {lacking}", "bring the version back whole, or leave it out"
            )
        every = frames.frames
        places = {every[round(i * (len(every) - 1) / (_DECODED - 1))] for i in range(_DECODED)}
        found = inspect_plate(one.pattern, frames=FrameRange.of(places), colorspace=None)
        plate = found.plate
        if found.faults or plate is None:
            fault = next(iter(found.faults))
            raise PlateError(f"{fault.where}: {fault.message}", fault.hint)
        if one.layer and one.layer not in {layer.name for layer in plate.layers}:
            has = ", ".join(layer.name for layer in plate.layers)
            raise PlateError(f"{one.name} has no layer {one.layer}, only {has}", "learn from versions that have it")
        spec = PlateSpec.of(plate, found.source_colorspace).model_copy(update={"frames": str(frames)})
        return SeenLesson(plate=spec, picture=None if one.source is None else _picture(one, one.source, spec, places))
    except PipelineError as error:
        return SeenLesson(fault=FaultText(where=f"version {one.name}", message=error.message, hint=error.hint))


def _picture(one: AskedLesson, source: PlateSpec, version: PlateSpec, places: set[int]) -> PlateSpec:
    """The plate that a version was made of, found to be there and still what it was. Raises: PlateError."""
    hint = "bring the plate back as it was, or leave the version out"
    _, available = find_sequence(source.pattern)
    if lacking := FrameRange.parse(version.frames) - available:
        raise PlateError(f"{source.pattern}, which {one.name} was made of, lacks the frames {lacking}", hint)
    found = inspect_plate(source.pattern, frames=FrameRange.of(places), colorspace=source.source_colorspace or None)
    changed = [frame for frame, digest in found.hashes.items() if one.hashes.get(frame, digest) != digest]
    if found.plate is None or found.faults or changed:
        raise PlateError(f"{source.pattern}, which {one.name} was made of, was changed since", hint)
    if (source.data_window, source.display_window) != (version.data_window, version.display_window):
        raise PlateError(f"{one.name} has other windows than {source.pattern}, which it was made of", "leave it out")
    return source.model_copy(update={"frames": version.frames})


def look_at_model(
    path: str, *, families: Sequence[str], roots: Sequence[Path], base: str = "", sha256: str = ""
) -> dict[str, Any]:
    """What weights at a path are: `{path, family, sha256, base, details}`. With a `base`, a LoRA for it.

    Raises: PathError (outside the roots), ModelError (absent, of a refused format, changed, for another base, of no family
    that the task takes).
    """
    real = allowed_path(path, roots)
    facts: ModelFacts
    if base:
        facts = inspect_lora(real, recognise(Path(base), families=tuple(families)), sha256=sha256)
    else:
        facts = inspect_model(real, families=tuple(families), sha256=sha256)
    return {
        "path": str(facts.path),
        "family": facts.family,
        "words": WORDS.get(facts.family, facts.family),
        "sha256": facts.sha256,
        "base": facts.base,
        "details": dict(facts.details),
    }


def check_model(path: str, sha256: str) -> str:
    """The hash of a card's weights, once they are found to be those. Raises: ModelError (gone, changed)."""
    if not Path(path).exists():
        raise ModelError(f"there are no weights at {path}", "bring them back, or retire the model")
    return check_sha256(Path(path), sha256)

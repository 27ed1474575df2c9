"""From an assignment to a comparison: what a replay made, held against the version that it repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm.wire import Assignment
from pipeline.compare import compare_sequences, files_of
from pipeline.frames import FrameRange
from pipeline.jobs.spec import JobSpec
from pipeline.plate import FramePattern
from pipeline.plate_shot import Reporter
from pipeline.provenance import software
from pipeline.runner import frame_pattern


def compare_take(assignment: Assignment, spec: JobSpec, report: Reporter) -> dict[str, Any]:
    """Compare every frame, pixel by pixel. Returns `{"replay": {version, name, bit_equal, sentence, comparison, software}}`.

    `software` names what has another release now than when the version was made. Raises: StorageError, Cancelled.
    """
    replays = spec.replays
    assert replays is not None  # only a replay has this step
    made: dict[int, Path] = {}
    for chunk in assignment.inputs:
        if chunk.step == "infer":
            pattern = frame_pattern(Path(chunk.folder))
            made.update({frame: pattern.path(frame) for frame in FrameRange.parse(chunk.frames)})
    frames = FrameRange.parse(replays.frames)
    before = FramePattern.parse(replays.pattern)
    assert before is not None  # a version's own pattern
    compared = compare_sequences(
        files_of(before, frames),
        made,
        each=lambda done: report.progress(done / max(1, len(frames)), f"compared {done} of {len(frames)} frames"),
    )
    now = software()
    changed = {
        name: [replays.software.get(name), now.get(name)]
        for name in sorted({*replays.software, *now})
        if replays.software and replays.software.get(name) != now.get(name)
    }
    return {
        "replay": {
            "version": replays.version,
            "name": replays.name,
            "bit_equal": compared.bit_equal,
            "sentence": compared.sentence(),
            "comparison": compared.as_json(),
            "software": changed,
        }
    }

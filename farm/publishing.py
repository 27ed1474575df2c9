"""From an assignment to a publish: gathers what the accepted attempts left and hands it to `pipeline.publish`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.wire import Assignment
from pipeline.errors import PipelineError, PublishError
from pipeline.frames import FrameRange
from pipeline.inputs import digest_of
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.plate_shot import Reporter
from pipeline.provenance import record
from pipeline.publish.run import publish
from pipeline.publish.signing import signing_identity
from pipeline.publish.values import ProxySettings, PublishRequest
from pipeline.runner import STEP_REPORT, frame_pattern
from pipeline.tasks.registry import task
from pipeline.version import Version


def version_of(assignment: Assignment, spec: JobSpec) -> Version:
    """The version whose number the take reserved."""
    reserved = assignment.version
    assert reserved is not None  # a job that publishes has one since its submission
    return Version(spec.address, reserved.product, reserved.number, reserved.name, Path(reserved.folder))


def publish_take(assignment: Assignment, spec: JobSpec, report: Reporter) -> dict[str, Any]:
    """Publish one take's frames as the version whose number the job reserved. Returns the version's facts for the record.

    Raises: PublishError (a validator refused, an attempt's folder is incomplete, what should sign can't), StorageError, Cancelled.
    """
    started = time.monotonic()
    signing = signing_identity()
    chunks = [i for i in assignment.inputs if i.step == "infer"]
    produced: dict[int, Path] = {}
    quality: dict[int, dict[str, float]] = {}
    layers: dict[str, None] = {}
    seconds = 0.0
    keys: dict[int, str] = {}
    reused = FrameRange()
    changes = alpha = False
    for chunk in chunks:
        folder = Path(chunk.folder)
        facts = _facts(folder / STEP_REPORT)
        pattern = frame_pattern(folder)
        produced.update({frame: pattern.path(frame) for frame in FrameRange.parse(chunk.frames)})
        quality.update({int(frame): values for frame, values in facts["frames"].items()})
        layers.update(dict.fromkeys(facts["layers"]))
        changes = changes or facts["changes_picture"]
        alpha = alpha or facts["makes_alpha"]
        keys.update({int(frame): key for frame, key in facts["keys"].items()})
        reused |= FrameRange.parse(facts["reused"])
        seconds += facts["seconds"]
    fit = next((_facts(Path(i.folder) / STEP_REPORT) for i in assignment.inputs if i.step == "fit"), {})
    definition = task(spec.task)
    take, plate = spec.takes[assignment.take], spec.plate.plate()
    version = version_of(assignment, spec)
    timings = {"fit_s": fit.get("seconds", 0.0), "infer_s": round(seconds, 3)}
    asked = FrameRange.parse(assignment.frames)
    # A chunk that a person skipped gave no folder; the version goes on without its frames, and says so.
    frames = asked & FrameRange.of(produced)
    if not frames:
        raise PublishError(
            "every chunk was skipped: there is nothing to publish", "cancel the job, or retry its chunks"
        )
    skipped = [f"frames {asked - frames} were skipped"] if len(frames) < len(asked) else []
    changed = changed_inputs(take)
    if changed:
        skipped.append(f"what {', '.join(changed)} leads to was changed after the job was submitted")
    published = publish(
        PublishRequest(
            version=version,
            plate=plate,
            source_colorspace=spec.plate.source_colorspace,
            frames=frames,
            produced=produced,
            added_layers=tuple(layers),
            changed_rgb=changes,
            makes_alpha=alpha,
            content_keys={} if changed else keys,
            reused=reused,
            windows=take.windows(plate),
            missing=FrameRange.parse(spec.missing),
            bounds=spec.bounds,
            painted=definition.keys_min is not None,
            splines=definition.splines(definition.parameters.model_validate(take.parameters)),
            cuts=spec.cuts,
            quality=quality,
            input_hashes=spec.input_hashes,
            record=record(
                job=assignment.job_id,
                spec=spec.model_dump(mode="json"),
                take=take.model_dump(mode="json"),
                model={**take.model.model_dump(), "name": take.model.name or spec.model},
                fit=fit,
                timings=timings,
            ),
            codec=spec.codec,
            rate=plate.rate,
            cut=None if spec.cut_path is None or spec.edit is None else (Path(spec.cut_path), str(spec.edit["clip"])),
            proxies=_proxies(assignment.proxy),
            scratch=Path(assignment.folder),
            signing=signing,
        ),
        progress=report.progress,
    )
    return {
        "version": {
            "name": published.name,
            "path": str(published.folder),
            "pattern": str(version.pattern),
            "frames": str(published.frames),
            "layers": list(published.layers),
            "colorspace": published.colorspace,
            "sidecar": str(published.sidecar),
            "otio": None if published.otio is None else str(published.otio),
        },
        "report": {**published.report, "fit": fit, "warnings": [*spec.warnings, *skipped, *published.warnings]},
        "timings": {**timings, "publish_s": round(time.monotonic() - started, 3)},
    }


def changed_inputs(take: TakeSpec) -> list[str]:
    """Parameters whose files aren't those any more that the job was submitted with: what was made of them has no key."""
    return [
        name
        for name, found in take.inputs.items()
        if name not in take.weights and not _as_submitted(Path(found.path), found.digests)
    ]


def _as_submitted(path: Path, digests: Mapping[str, str]) -> bool:
    folder = path if path.is_dir() else path.parent
    try:
        return all(digest_of(folder / file) == digest for file, digest in digests.items())
    except PipelineError:
        return False


def _proxies(said: dict[str, Any]) -> ProxySettings | None:
    """What was said of proxies; what wasn't keeps its default."""
    return ProxySettings(**{name: value for name, value in said.items() if value is not None}) if said else None


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PublishError(f"{path} is gone or broken", "retry the step that wrote it: plates retry") from error
    return facts

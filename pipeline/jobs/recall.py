"""A take of a job as a new request: the same plate, keys, parameters, curves, weights and seed, for the same place.

Pure. Whether the files are still there, and still what they were, shows when the request is handed in like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from pipeline.curves import KeyedCurve
from pipeline.errors import NotFoundError
from pipeline.jobs.spec import JobRequest, JobSpec, KeyRequest, ModelSpec, TakeSpec

_NOTHING: Mapping[str, Any] = {}


def recalled(spec: JobSpec, take: int, *, changes: Mapping[str, Any] = _NOTHING) -> JobRequest:
    """The request that makes a take again, with `changes` laid over its parameters.

    Resolved against the same files, without changes, it gives the same take: parameters, curves, inputs, weights and seed. A
    curve comes back keyed on each of its frames, whatever drove it. Where the result is published and how urgent it is are
    not of the take: the new job's own word counts.
    Raises: NotFoundError (no such take).
    """
    if not 0 <= take < len(spec.takes):
        raise NotFoundError(f"the job has no take {take}", f"it has {len(spec.takes)}, numbered from 0")
    of = spec.takes[take]
    model, digest = _model(of.model)
    return JobRequest(
        task=spec.task,
        plate=spec.plate.pattern,
        cut=spec.cut_path,
        clip=_clip(spec),
        handles=spec.handles,
        frames=spec.frames,
        keys=tuple(KeyRequest(frame=key.frame, path=key.path, object=key.object) for key in spec.keys),
        parameters={**of.parameters, **_paths(of), **_curves(of), **changes},
        show=spec.show,
        sequence=spec.sequence or None,
        shot=spec.shot,
        colorspace=spec.plate.source_colorspace,
        rate=spec.plate.rate,
        model=model,
        model_sha256=digest,
        seed=of.seed,
        codec=spec.codec,
        chunk_frames=spec.chunk_frames,
        pool=spec.pool,
        use=cast("Literal['', 'temp', 'final']", spec.use),
    )


def _model(model: ModelSpec) -> tuple[str, str]:
    """How weights are asked for, and the digest that they must have: by their card, by their path, or as the task's own."""
    if model.card or model.path is not None:
        return model.card or str(model.path), model.sha256
    return model.name, ""


def _clip(spec: JobSpec) -> str | None:
    if spec.edit is None:
        return None
    return str(spec.edit.get("address") or spec.edit["clip"]) or None


def _paths(take: TakeSpec) -> dict[str, str]:
    """What the parameters that are paths led to: a link may point elsewhere by now."""
    return {name: found.path for name, found in take.inputs.items()}


def _curves(take: TakeSpec) -> dict[str, dict[str, Any]]:
    return {name: _keyed(values, take.parameters[name]) for name, values in take.curves.items() if values}


def _keyed(values: Mapping[int, float], stands_for_it: float) -> dict[str, Any]:
    """A key on each frame. The parameter beside the curve holds the value of the first key, so where that was another one it
    gets a key before the frames, where it changes nothing that is delivered."""
    keys = dict(values)
    first = min(keys)
    if keys[first] != stands_for_it:
        keys[first - 1] = stands_for_it
    return KeyedCurve(keys=keys).model_dump(mode="json")

"""What became of a job, in one object: what `plates submit --wait --json`, `plates run --json` and the API answer."""

from __future__ import annotations

from typing import Any

from farm.estimates import relative_error
from farm.records import JobDetail
from farm.states import JobState, VersionState
from pipeline.jobs.plan import StepName


def outcome(detail: JobDetail, *, made: str = "") -> dict[str, Any]:
    """`{"job", "state", "version", "report", "timings", "takes", …}`; version and report are None until it is published.

    Of a wedge they are the first published take's; `takes` has one object for each: `{"take", "name", "seed", "version",
    "report"}`. `cost` is what all attempts took, `estimate` what was said before, with its `error` once the job has succeeded:
    how much more was spent, as a part of the estimate. `model` is of a training or a judgement, `made` the card that came of
    it; `replay` of a replay.
    """
    job = detail.job
    published = {v.take for v in job.versions if v.state is VersionState.PUBLISHED}
    results = {c.take: c.result for c in detail.chunks if c.step == "publish" and c.result and c.take in published}
    first = results[min(results)] if results else {}
    waited = None if job.started_at is None else round(job.started_at - job.created_at, 3)
    total = None if job.ended_at is None else round(job.ended_at - job.created_at, 3)
    return {
        "job": job.id,
        "state": str(job.state),
        "version": first.get("version"),
        "report": first.get("report"),
        "timings": {**first.get("timings", {}), "waited_s": waited, "total_s": total},
        "takes": [
            {
                "take": take.take,
                "name": take.name,
                "seed": take.seed,
                "version": results.get(take.take, {}).get("version"),
                "report": results.get(take.take, {}).get("report"),
            }
            for take in detail.takes
        ]
        if len(detail.takes) > 1
        else [],
        "model": _model(detail, made),
        "replay": next((c.result["replay"] for c in detail.chunks if c.step == StepName.COMPARE and c.result), None),
        "cost": detail.cost.as_json(),
        "estimate": _estimate(detail),
        "message": job.message,
        "hint": job.hint,
    }


def _model(detail: JobDetail, made: str) -> dict[str, Any] | None:
    """What a training came to: its card, and both scores."""
    for chunk in detail.chunks:
        if chunk.step == StepName.REGISTER and chunk.result:
            found = dict(chunk.result)
            return {"label": made or found["candidate"], "against": found["against"], **found}
    return None


def _estimate(detail: JobDetail) -> dict[str, Any] | None:
    if detail.estimate is None:
        return None
    done = detail.job.state is JobState.SUCCEEDED
    error = relative_error(detail.estimate, detail.cost.machine_s) if done else None
    return {**detail.estimate, "error": error}

"""What became of a job, in one object: what `plates submit --wait --json`, `plates run --json` and the API answer."""

from __future__ import annotations

from typing import Any

from farm.records import JobDetail
from farm.states import VersionState


def outcome(detail: JobDetail) -> dict[str, Any]:
    """`{"job", "state", "version", "report", "timings", …}`; version and report are None until it is published."""
    job = detail.job
    published = next((v for v in job.versions if v.state is VersionState.PUBLISHED), None)
    result = next((c.result for c in detail.chunks if c.step == "publish" and c.result), {})
    waited = None if job.started_at is None else round(job.started_at - job.created_at, 3)
    total = None if job.ended_at is None else round(job.ended_at - job.created_at, 3)
    return {
        "job": job.id,
        "state": str(job.state),
        "version": result.get("version") if published is not None else None,
        "report": result.get("report") if published is not None else None,
        "timings": {**result.get("timings", {}), "waited_s": waited, "total_s": total},
        "message": job.message,
        "hint": job.hint,
    }

"""Where attempts write. An attempt has a folder of its own, so a worker that wakes after its lease can harm nobody."""

from __future__ import annotations

from pathlib import Path

WORK = Path(".platewright") / "work"


def job_folder(publish_root: str | Path, *, studio: str, job: int) -> Path:
    """Everything that a job's attempts have written, on the file system of its versions: publishing is a rename."""
    return Path(publish_root) / WORK / f"{studio}-job-{job}"


def fits_folder(publish_root: str | Path, *, studio: str) -> Path:
    """Fits of a studio that later jobs may share."""
    return Path(publish_root) / WORK.parent / "fits" / studio


def checkpoints_folder(publish_root: str | Path, *, studio: str, job: int) -> Path:
    """States of a job's training, which its next attempt goes on from."""
    return job_folder(publish_root, studio=studio, job=job) / "checkpoints"


def models_folder(publish_root: str | Path, *, studio: str) -> Path:
    """Weights that a studio's trainings made, each under its hash."""
    return Path(publish_root) / WORK.parent / "models" / studio


def attempt_folder(
    publish_root: str | Path, *, studio: str, job: int, take: int, step: str, index: int, attempt: int
) -> Path:
    """One attempt's folder: `<publish_root>/.platewright/work/<studio>-job-7/take0/infer-3/a2`."""
    # One join: this is asked for with every claim.
    return Path(publish_root, WORK, f"{studio}-job-{job}", f"take{take}", f"{step}-{index}", f"a{attempt}")

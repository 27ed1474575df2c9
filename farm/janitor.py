"""Clears what finished jobs leave: their attempts' folders. Published frames are hard links and stay."""

from __future__ import annotations

import asyncio
import logging
import shutil

from farm.dispatcher import Dispatcher
from farm.events import EventKind
from farm.folders import job_folder
from farm.records import JobFilter
from farm.states import FINISHED_JOBS, JobState
from pipeline.errors import PipelineError

log = logging.getLogger("platewright.janitor")

_STOPPING_S = 10.0
"""A worker that is told to stop may write a little longer."""
_LOOKED_BACK = 500


async def keep_clean(dispatcher: Dispatcher, studio: str) -> None:
    """Clear after each job that can't come back, and once for those that ended while nobody looked. Runs until cancelled."""
    subscription = dispatcher.subscribe(None)
    waiting: set[asyncio.Task[None]] = set()
    try:
        done = JobFilter(states=FINISHED_JOBS)
        for job in await asyncio.to_thread(dispatcher.jobs, studio, done, limit=_LOOKED_BACK):
            await _clear(dispatcher, studio, job.id, after_s=0)
        async for event in subscription:
            if event.kind is not EventKind.JOB or event.job_id is None:
                continue
            state = event.data.get("state")
            if state in FINISHED_JOBS:
                wait_s = _STOPPING_S if state == JobState.CANCELLED else 0.0
                task = asyncio.create_task(_clear(dispatcher, event.studio, event.job_id, after_s=wait_s))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
    finally:
        subscription.close()
        for task in waiting:
            task.cancel()


async def _clear(dispatcher: Dispatcher, studio: str, job: int, *, after_s: float) -> None:
    await asyncio.sleep(after_s)
    try:
        root = await asyncio.to_thread(dispatcher.publish_root, studio, job)
    except PipelineError as error:
        log.warning("the work of job %d is not cleared: %s", job, error.message)
        return
    folder = job_folder(root, studio=studio, job=job)
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

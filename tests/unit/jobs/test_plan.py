"""A spec as steps and chunks."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.frames import FrameRange
from pipeline.jobs.chunks import ChunkError, Chunks
from pipeline.jobs.plan import StepName, plan
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.parameters import Parameters, parameter
from pipeline.tasks.definition import TaskDefinition
from pipeline.tasks.registry import task
from tests.queue_kit import job_spec


class _Reach(Parameters):
    reach: int = parameter(1, min=0, max=9, help="Frames that are read beside each.")


WITH_CONTEXT = TaskDefinition(
    name="reaching", label="Reaching", help="Reads its neighbours.", parameters=_Reach, runner="a:B", product="p",
    context_frames=lambda p: p.reach if isinstance(p, _Reach) else 0, chunk_frames=4,
)  # fmt: skip


def spec_of(frames: str, *reaches: int, **more: Any) -> JobSpec:
    takes = tuple(TakeSpec(index=i, name=f"t{i}", seed=0, parameters={"reach": r}) for i, r in enumerate(reaches))
    return job_spec(frames, **more).model_copy(update={"takes": takes})


def test_a_fitting_task_fits_the_whole_shot_then_infers_in_chunks_then_publishes_at_once() -> None:
    fit, infer, publish = plan(job_spec("1001-1030"), task("roto"))
    assert [step.name for step in (fit, infer, publish)] == [StepName.FIT, StepName.INFER, StepName.PUBLISH]
    assert [step.after for step in (fit, infer, publish)] == [(), (StepName.FIT,), (StepName.INFER,)]
    assert [str(chunk.frames) for chunk in fit.chunks] == ["1001-1030"]
    assert [str(chunk.frames) for chunk in infer.chunks] == ["1001-1012", "1013-1024", "1025-1030"]
    assert [str(chunk.frames) for chunk in publish.chunks] == ["1001-1030"]


def test_a_task_without_a_fit_starts_with_its_chunks() -> None:
    steps = plan(spec_of("1001-1008", 1), WITH_CONTEXT)
    assert [(step.name, step.after) for step in steps] == [("infer", ()), ("publish", ("infer",))]


def test_each_take_is_planned_with_its_own_parameters() -> None:
    steps = plan(spec_of("1001-1008", 1, 2), WITH_CONTEXT)
    second = {step.take: step.chunks[1] for step in steps if step.name is StepName.INFER}
    assert (str(second[0].context), str(second[1].context)) == ("1004", "1003-1004")


def test_no_chunk_and_no_context_crosses_a_cut_or_a_gap() -> None:
    (infer, _) = plan(spec_of("1001-1006,1010-1013", 2, cuts=(1004,)), WITH_CONTEXT)
    assert [(str(c.frames), str(c.context)) for c in infer.chunks] == [
        ("1001-1003", ""), ("1004-1006", ""), ("1010-1013", ""),
    ]  # fmt: skip


def test_the_submission_may_choose_the_size_of_chunks() -> None:
    _, infer, _ = plan(job_spec("1-7", chunk_frames=3), task("roto"))
    assert [len(chunk.frames) for chunk in infer.chunks] == [3, 3, 1]


@pytest.mark.parametrize("frames", ["1-10", "-5-5", "1-20x2", "1-4,8-9,20"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_chunks_cover_every_frame_once_and_are_lists_in_all_but_memory(frames: str, size: int) -> None:
    wanted = FrameRange.parse(frames)
    chunks = Chunks(wanted, size=size, context=2)
    assert [f for chunk in chunks for f in chunk.frames] == list(wanted)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert chunks[-1] == list(chunks)[-1]
    assert list(chunks[1:3]) == list(chunks)[1:3]
    with pytest.raises(IndexError):
        chunks[len(chunks)]


def test_chunks_of_a_long_range_are_made_when_they_are_asked_for() -> None:
    chunks = Chunks(FrameRange.span(1, 200_000), size=1)
    assert len(chunks) == 200_000
    assert str(chunks[199_999].frames) == "200000"


@pytest.mark.parametrize(("size", "context"), [(0, 0), (1, -1)])
def test_sizes_that_make_no_sense_are_refused(size: int, context: int) -> None:
    with pytest.raises(ChunkError):
        Chunks(FrameRange.span(1, 2), size=size, context=context)

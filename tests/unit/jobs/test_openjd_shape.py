"""A planned job has the shape of one Open Job Description template, 2023-09: <https://github.com/OpenJobDescription/openjd-specifications>.

The template is made here, of nothing but `plan`: proof that an exporter needs no other facts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openjd.model import StepParameterSpaceIterator as Space
from openjd.model import create_job, decode_job_template, preprocess_job_parameters

from pipeline.frames import FrameRange
from pipeline.jobs.plan import Step, StepName, plan
from pipeline.jobs.spec import JobSpec
from pipeline.tasks.registry import task
from tests.queue_kit import job_spec

EXTENSION = "TASK_CHUNKING"


def template(spec: JobSpec, steps: tuple[Step, ...]) -> dict[str, Any]:
    """The template of a job. Every command is an argument list: nothing is pasted into a shell."""
    return {
        "specificationVersion": "jobtemplate-2023-09",
        "extensions": [EXTENSION],
        "name": f"{spec.task} {spec.show}/{spec.shot}",
        "parameterDefinitions": [{"name": "Spec", "type": "PATH", "default": "spec.json"}],
        "steps": [_step(step) for step in steps],
    }  # fmt: skip


def _step(step: Step) -> dict[str, Any]:
    what = ["chunk", "--spec", "{{Param.Spec}}", "--take", str(step.take), "--step", str(step.name)]
    out: dict[str, Any] = {"name": f"{step.name}-{step.take}"}
    if step.after:
        out["dependencies"] = [{"dependsOn": f"{before}-{step.take}"} for before in step.after]
    if step.name is StepName.INFER:
        chunks = {"defaultTaskCount": len(step.chunks[0].frames), "rangeConstraint": "CONTIGUOUS"}
        frames = FrameRange.of(f for chunk in step.chunks for f in chunk.frames)
        # Our range text is OpenJD's, but for the step, which it writes as `1-9:2`.
        definition = {"name": "Frames", "type": "CHUNK[INT]", "range": str(frames).replace("x", ":"), "chunks": chunks}
        out["parameterSpace"] = {"taskParameterDefinitions": [definition]}
        what += ["--frames", "{{Task.Param.Frames}}"]
    out["script"] = {"actions": {"onRun": {"command": "plates", "args": what}}}
    return out


def job_of(spec: JobSpec) -> Any:
    """The template as OpenJD's own library reads it, made into a job."""
    read = decode_job_template(template=template(spec, plan(spec, task(spec.task))), supported_extensions=[EXTENSION])
    values = preprocess_job_parameters(
        job_template=read, job_parameter_values={}, job_template_dir=Path("/"), current_working_dir=Path("/")
    )
    return create_job(job_template=read, job_parameter_values=values)


@pytest.mark.parametrize("frames", ["1001-1030", "-4-9", "1001-1030x2", "1001-1010,1020-1033"])
def test_a_planned_job_is_a_valid_template_with_its_steps_in_order(frames: str) -> None:
    spec = job_spec(frames, chunk_frames=4)
    job = job_of(spec)
    assert [step.name for step in job.steps] == ["fit-0", "infer-0", "publish-0"]
    depends = [[d.dependsOn for d in step.dependencies or ()] for step in job.steps]
    assert depends == [[], ["fit-0"], ["infer-0"]]


@pytest.mark.parametrize(
    ("frames", "size"), [("1001-1030", 4), ("-4-9", 3), ("1001-1010,1020-1033", 5), ("1001-1009x2", 4), ("7", 12)]
)
def test_openjd_cuts_the_frames_into_as_many_chunks_and_no_larger_ones(frames: str, size: int) -> None:
    """It evens out the last ones where we leave a rest; across a gap neither of us goes."""
    spec = job_spec(frames, chunk_frames=size)
    _, infer, _ = plan(spec, task(spec.task))
    space = Space(space=job_of(spec).steps[1].parameterSpace)
    theirs = [FrameRange.parse(task_["Frames"].value.replace(":", "x")) for task_ in space]
    assert FrameRange.of(f for chunk in theirs for f in chunk) == FrameRange.parse(frames)
    assert sum(len(chunk) for chunk in theirs) == len(FrameRange.parse(frames)), "each frame once"
    assert all(len(chunk.runs()) == 1 and len(chunk) <= size for chunk in theirs)
    assert len(theirs) == len(infer.chunks)


def test_several_takes_are_independent_of_each_other() -> None:
    job = job_of(job_spec("1-8", takes=2))
    assert [step.name for step in job.steps] == ["fit-0", "infer-0", "publish-0", "fit-1", "infer-1", "publish-1"]
    assert [d.dependsOn for d in job.steps[4].dependencies] == ["fit-1"]

"""A training's spec: its steps, its text, and the digest that says which scores may be compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.jobs import training as training_module
from pipeline.jobs.spec import JobSpec, ModelSpec
from pipeline.jobs.training import (
    AdapterSpec,
    JudgedSpec,
    ScoringRequest,
    TrainingRequest,
    TrainingSpec,
    plan_training,
    read_spec,
)
from tests.queue_kit import job_spec
from tests.unit.farm.test_registering import lesson, training_spec

HELD = (lesson(3, "sh030"), lesson(4, "sh040"))
OTHER = JudgedSpec(card=7, label="old@v001", model=ModelSpec(name="old@v001", path="/o", sha256="0" * 64))
BASE = ModelSpec(name="base@v001", path="/b", sha256="b" * 64)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "villain"}, {"lessons": (lesson(9, "sh090"),)}, {"seed": 5}, {"note": "n", "licence": "MIT"}, {"present": OTHER},
        {"candidate": OTHER, "lessons": ()}, {"parameters": {"iterations": 99, "score_frames": 4}}, {"base": BASE, "base_card": 2},
        {"held_out": HELD[::-1]}, {"priority": 9, "pool": "gpu", "user": "bob", "policy": {"a": 1}, "show": "other"},
        {"publish_root": "/else", "models_folder": "/else/m", "studio": "guest"},
        {"held_out": (lesson(3, "sh030", clearance={"by": "x"}), HELD[1])},
    ],
)  # fmt: skip
def test_what_is_not_of_the_measurement_leaves_scores_comparable(more: dict[str, Any]) -> None:
    assert training_spec(**more).protocol == training_spec().protocol


@pytest.mark.parametrize(
    "more",
    [
        {"held_out": HELD[:1]}, {"held_out": (*HELD, lesson(5, "sh050"))}, {"held_out": (HELD[0], lesson(44, "sh040"))},
        {"task": "style_transfer"}, {"parameters": {"iterations": 10, "score_frames": 5}},
        {"parameters": {"iterations": 10, "score_frames": 4, "score_more": 1}},
    ],
)  # fmt: skip
def test_what_is_measured_and_how_makes_scores_another_protocols(more: dict[str, Any]) -> None:
    assert training_spec(**more).protocol != training_spec().protocol


def test_an_adapter_is_measured_on_its_base_and_another_model_is_not() -> None:
    beside = {"adapter": "lora", "base": BASE}
    other = {"adapter": "lora", "base": BASE.model_copy(update={"sha256": "c" * 64})}
    assert training_spec(**beside).protocol != training_spec(**other).protocol
    renamed = {"adapter": "lora", "base": BASE.model_copy(update={"name": "x@v009", "path": "/moved"})}
    assert training_spec(**beside).protocol == training_spec(**renamed).protocol


def test_another_release_measures_by_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    before = training_spec().protocol
    monkeypatch.setattr(training_module, "__version__", "99.0")
    assert training_spec().protocol != before


def test_a_spec_is_read_back_as_what_it_was_and_keeps_its_protocol() -> None:
    for spec in (training_spec(), training_spec(candidate=OTHER, lessons=())):
        again = read_spec(spec.model_dump_json())
        assert again == spec and isinstance(again, TrainingSpec) and again.protocol == spec.protocol
    assert isinstance(read_spec(job_spec().model_dump_json()), JobSpec)


def test_a_spec_that_was_kept_before_lessons_had_pictures_is_still_read() -> None:
    old = training_spec().model_dump(mode="json")
    for one in (*old["lessons"], *old["held_out"]):
        del one["picture"]
    assert TrainingSpec.model_validate(old) == training_spec()


def test_a_job_whose_note_looks_like_a_training_is_read_as_the_job_that_it_is() -> None:
    spec = job_spec(user='"schema":"platewright.training/1"')
    assert read_spec(spec.model_dump_json()) == spec


@given(st.integers(1, 30), st.booleans())
def test_every_held_out_shot_is_a_chunk_between_training_and_registering(shots: int, judges: bool) -> None:
    held = tuple(lesson(i, f"sh{i:03d}") for i in range(shots))
    more: dict[str, Any] = {"candidate": OTHER, "lessons": ()} if judges else {}
    steps = plan_training(training_spec(held_out=held, **more))
    assert [str(step.name) for step in steps] == ([] if judges else ["train"]) + ["score", "register"]
    assert [chunk.index for chunk in steps[-2].chunks] == list(range(shots))
    assert [len(step.chunks) for step in steps if step.name != "score"] == [1] * (len(steps) - 1)
    assert list(steps[-1].after) == ["score"] and (judges or list(steps[-2].after) == ["train"])


def test_every_file_of_what_is_judged_is_held_to_its_hash() -> None:
    beside = {"lora": AdapterSpec(path="/l", sha256="1" * 64)}
    judged = JudgedSpec(label="look", model=BASE, adapters=beside)
    assert [(str(path), sha[:1]) for path, sha in judged.files()] == [("/b", "b"), ("/l", "1")]
    assert judged.ref().options == {"lora": "/l"}
    assert list(JudgedSpec(label="own", model=ModelSpec(name="own")).files()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""}, {"name": "n" * 65}, {"seed": -1}, {"seed": 2**31}, {"priority": 101}, {"pool": "a b"}, {"bogus": 1},
        {"versions": ["v"] * 1001}, {"base": "b" * 4097}, {"note": "n" * 4001},
    ],
)  # fmt: skip
def test_a_request_of_another_shape_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingRequest(**{"task": "roto", "name": "hero", **wrong})


def test_a_request_to_judge_takes_no_number_that_is_none() -> None:
    with pytest.raises(ValidationError):
        ScoringRequest(priority=-1)

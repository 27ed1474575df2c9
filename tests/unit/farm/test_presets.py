"""Presets: what may be kept, what lies beneath what, and which is the favourite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from farm import presets, reviews
from farm.presets import PresetView
from farm.records import VersionView, WorkFacts
from farm.reviews import ReviewKind
from farm.store import SqlStore
from farm.tables import PRESET
from farm.tokens import Identity, Scope
from pipeline.errors import AuthError, Fault, NotFoundError, SubmissionRefused
from pipeline.jobs.spec import InputSpec, JobRequest, ModelSpec, TakeSpec
from pipeline.tasks.registry import task
from tests.queue_kit import STUDIO, QueueFarm, database_url, job_spec, job_steps, open_farm

ANN = Identity("ann", STUDIO, frozenset({Scope.SUBMIT}))
BOB = Identity("bob", STUDIO, frozenset({Scope.SUBMIT}))
SUE = Identity("sue", STUDIO, frozenset({Scope.WRANGLE}))


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm() as opened:
        yield opened


def save(farm: QueueFarm, name: str = "soft", who: Identity = ANN, **more: Any) -> PresetView:
    more = {"task": "roto", "show": "show", **more} if "version" not in more else more
    return farm.run(farm.dispatcher.write(partial(presets.save, who=who, name=name, **more)))


def listed(farm: QueueFarm, studio: str = STUDIO, **wanted: Any) -> tuple[PresetView, ...]:
    return farm.dispatcher.read(lambda turn: presets.listed(turn.tx, studio, **wanted))


def asked(farm: QueueFarm, studio: str = STUDIO, **more: Any) -> JobRequest:
    request = JobRequest.model_validate({"task": "roto", "plate": "/plates", "show": "show", "preset": "soft", **more})
    return farm.dispatcher.read(partial(presets.with_preset, request=request, studio=studio))


def refused(call: Any, *given: Any, **more: Any) -> dict[str, Fault]:
    with pytest.raises(SubmissionRefused) as error:
        call(*given, **more)
    return {fault.where: fault for fault in error.value.faults}


def published(farm: QueueFarm, preset: str = "", **job: Any) -> VersionView:
    number = farm.submit(size=10, preset=preset, **job).id
    farm.finish()
    return farm.dispatcher.job_view(STUDIO, number).versions[0]


def say(farm: QueueFarm, version: VersionView, kind: ReviewKind, value: int = 1, who: Identity = ANN) -> None:
    farm.run(farm.dispatcher.write(partial(reviews.add, version=version.id, who=who, kind=kind, value=value)))


def test_a_presets_parameters_lie_beneath_those_of_the_request_and_of_its_takes(farm: QueueFarm) -> None:
    save(farm, parameters={"feather": 2.0, "iterations": 100, "islands": False}, model="look@v002")
    request = asked(farm, parameters={"feather": 3.0}, takes=[{}, {"parameters": {"feather": 4.0, "iterations": 7}}])
    first, second = request.asked_takes()
    assert first.parameters == {"feather": 3.0, "iterations": 100, "islands": False}
    assert second.parameters == {"feather": 4.0, "iterations": 7, "islands": False}
    assert (first.model, request.preset) == ("look@v002", "soft")
    assert asked(farm, model="other@v001").model == "other@v001"


def test_a_request_without_a_preset_is_left_as_it_is(farm: QueueFarm) -> None:
    request = JobRequest(task="nothing", plate="/plates")
    assert farm.dispatcher.read(partial(presets.with_preset, request=request, studio=STUDIO)) is request


def test_a_preset_is_looked_for_in_its_show_and_task_alone(farm: QueueFarm) -> None:
    save(farm, parameters={"feather": 2.0})
    save(farm, name="hard", parameters={"feather": 0.0})
    fault = refused(asked, farm, preset="sfot")["preset"]
    assert fault.message == "show has no preset 'sfot' for roto"
    assert fault.hint == "there are hard, soft"
    assert "another has none for roto yet" in refused(asked, farm, show="another")["preset"].hint
    assert "for matte" in refused(asked, farm, task="matte")["preset"].message
    assert "preset" in refused(asked, farm, studio="guest")


def test_the_farms_own_show_is_meant_where_none_is_named() -> None:
    with open_farm(show="film") as farm:
        assert save(farm, show="", parameters={"feather": 2.0}).show == "film"
        assert asked(farm, show=None).parameters == {"feather": 2.0}


def test_every_fault_of_a_preset_is_told_before_it_is_kept(farm: QueueFarm) -> None:
    wrong = {"feather": 1e9, "fether": 1, "iterations": "many", "islands": True}
    faults = refused(save, farm, name="a_b", show="x/y", parameters=wrong)
    assert set(faults) == {"preset", "show", "parameter feather", "parameter fether", "parameter iterations"}
    assert faults["parameter fether"].message == "this task has no such parameter"
    assert "task" in refused(save, farm, task="rotto")
    assert listed(farm) == ()


def test_a_preset_that_a_newer_task_no_longer_knows_is_refused_with_what_to_do(farm: QueueFarm) -> None:
    saved = save(farm, parameters={"feather": 2.0})
    old = json.dumps({"feather": 2.0, "softness": 0.5})
    farm.store.submit(
        lambda tx: tx.execute(update(PRESET).where(PRESET.c.id == saved.id).values(parameters=old))
    ).result()
    faults = refused(asked, farm)
    assert set(faults) == {"preset soft, parameter softness"}
    assert "plates presets save soft --task roto --show show" in faults["preset soft, parameter softness"].hint


def test_a_preset_can_be_made_of_a_version(farm: QueueFarm) -> None:
    take = TakeSpec(
        index=0, name="take-1", seed=3, model=ModelSpec(name="net", path="/w/net.safetensors", sha256="a" * 64),
        parameters={"feather": 1.5, "iterations": 200, "seed": 3, "points": [[1.0, 2.0]], "spline_accuracy": 0.9},
        curves={"spline_accuracy": {1001: 0.9}},
    )  # fmt: skip
    version = published_with(farm, take)
    made = save(farm, version=version.id, parameters={"iterations": 50})
    assert (made.task, made.show, made.model) == ("roto", "show", "/w/net.safetensors")
    assert made.parameters == {"feather": 1.5, "iterations": 50}
    assert "task" in refused(save, farm, version=version.id, task="matte")
    with pytest.raises(NotFoundError, match="no version 99"):
        save(farm, version=99)
    stranger = Identity("ann", "guest", frozenset({Scope.ADMIN}))
    with pytest.raises(NotFoundError):
        save(farm, version=version.id, who=stranger)


def published_with(farm: QueueFarm, take: TakeSpec) -> VersionView:
    spec = job_spec().model_copy(update={"takes": (take,)})
    work = WorkFacts(product="roto", memory_mb=100)
    job = farm.run(farm.dispatcher.submit(spec, job_steps(fits=False), work=work)).job.id
    farm.finish()
    return farm.dispatcher.job_view(STUDIO, job).versions[0]


def test_what_a_path_led_to_is_kept_in_a_preset() -> None:
    take = TakeSpec(
        index=0, name="t", seed=1, inputs={"mood": InputSpec(path="/real/mood"), "mask": InputSpec(path="/real/mask.exr")},
        parameters={"mood": "/link/mood", "mask": "/link/mask.exr", "texture": 0.2, "gone": 1, "lora": None},
    )  # fmt: skip
    assert presets.worth_keeping(take, task("style_transfer")) == {"mood": "/real/mood", "texture": 0.2}


def test_a_name_belongs_to_whoever_saved_it_and_to_wranglers(farm: QueueFarm) -> None:
    first = save(farm, parameters={"feather": 1.0})
    with pytest.raises(AuthError, match="ann saved the preset soft"):
        save(farm, who=BOB, parameters={"feather": 9.0})
    with pytest.raises(AuthError):
        farm.run(farm.dispatcher.write(partial(presets.delete, preset=first.id, who=BOB)))
    assert asked(farm).parameters == {"feather": 1.0}
    second = save(farm, who=SUE, parameters={"feather": 2.0})
    assert asked(farm).parameters == {"feather": 2.0}
    farm.run(farm.dispatcher.write(partial(presets.delete, preset=second.id, who=SUE)))
    assert listed(farm) == ()
    for gone in (first.id, second.id, 99):
        with pytest.raises(NotFoundError, match=f"no preset {gone}"):
            farm.run(farm.dispatcher.write(partial(presets.delete, preset=gone, who=SUE)))


def test_another_studios_presets_are_not_there(farm: QueueFarm) -> None:
    saved = save(farm)
    boss = Identity("boss", "guest", frozenset({Scope.ADMIN}))
    with pytest.raises(NotFoundError):
        farm.run(farm.dispatcher.write(partial(presets.delete, preset=saved.id, who=boss)))
    save(farm, who=boss, parameters={"feather": 7.0})
    assert [view.id for view in listed(farm)] == [saved.id]
    assert [view.parameters for view in listed(farm, "guest")] == [{"feather": 7.0}]


def test_presets_are_ranked_by_what_was_picked_of_them(farm: QueueFarm) -> None:
    for name in ("hard", "soft", "thick", "unused"):
        save(farm, name=name)
    save(farm, name="soft", task="matte")
    hard, soft, again = published(farm, "hard"), published(farm, "soft"), published(farm, "soft", shot="sh020")
    published(farm, "thick")
    farm.submit(preset="thick")
    say(farm, hard, ReviewKind.RATE, 5)
    say(farm, soft, ReviewKind.RATE, 2)
    say(farm, again, ReviewKind.RATE, 4)
    say(farm, again, ReviewKind.RATE, 3, BOB)
    say(farm, again, ReviewKind.PICK)
    say(farm, published(farm), ReviewKind.PICK)
    found = listed(farm, task="roto", show="show")
    assert [(one.name, one.picks, one.rating, one.ratings, one.uses) for one in found] == [
        ("soft", 1, 3.0, 3, 2),
        ("hard", 0, 5.0, 1, 1),
        ("thick", 0, None, 0, 2),
        ("unused", 0, None, 0, 0),
    ]
    assert [(one.task, one.uses) for one in listed(farm, task="matte")] == [("matte", 0)]
    assert listed(farm, show="another") == ()


def test_what_was_made_with_an_earlier_preset_of_the_name_does_not_count(farm: QueueFarm) -> None:
    save(farm, parameters={"feather": 1.0})
    say(farm, published(farm, "soft"), ReviewKind.PICK)
    assert listed(farm)[0].picks == 1
    farm.clock.now += 1
    assert save(farm, who=BOB, parameters={"feather": 1.0}).id == listed(farm)[0].id, "the same again changes nothing"
    assert listed(farm)[0].picks == 1
    save(farm, parameters={"feather": 2.0})
    assert (listed(farm)[0].picks, listed(farm)[0].uses) == (0, 0)


@pytest.mark.parametrize("kind", ["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_presets_are_the_same_on_every_database(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        farm = QueueFarm(SqlStore.open(url))
        try:
            save(farm, parameters={"feather": 1.0})
            save(farm, parameters={"feather": 2.0})
            say(farm, published(farm, "soft"), ReviewKind.PICK)
            (view,) = listed(farm)
            assert (view.picks, view.parameters, asked(farm).parameters) == (1, {"feather": 2.0}, {"feather": 2.0})
        finally:
            farm.close()

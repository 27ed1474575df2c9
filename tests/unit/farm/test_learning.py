"""From a request for a training to a job: what is learned from, what is set aside, and every refusal before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import reviews
from farm.cards import CardView, NewCard, add_card
from farm.clearances import give
from farm.heldout import Address, held_out, hold_out
from farm.inspector import Inspector
from farm.learning import PreparedTraining, prepare_scoring, prepare_training
from farm.lessons import drawn, parse_address, text_of
from farm.promotions import retire
from farm.records import VersionFilter, VersionView, WorkFacts
from farm.reviews import ReviewKind
from farm.settings import FarmSettings
from farm.store import SqlStore
from farm.tokens import Identity, Scope
from pipeline.errors import Fault, SubmissionRefused
from pipeline.jobs.spec import PlateSpec
from pipeline.jobs.training import ScoringRequest, TrainingRequest
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.media.inspect import inspect_plate
from pipeline.plate import FramePattern, Window
from tests.plates import disc, picture
from tests.queue_kit import STUDIO, QueueFarm, database_url, job_spec, job_steps

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
FRAMES = "1001-1004"


def boss(studio: str = STUDIO) -> Identity:
    return Identity("sue", studio, frozenset({Scope.WRANGLE}))


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    child = Inspector()
    yield child
    child.close()


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


@pytest.fixture
def place(tmp_path: Path) -> FarmSettings:
    """Where versions lie, and rules."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "local.toml").write_text("")
    return FarmSettings.read(
        {}, publish_root=tmp_path / "pub", data=tmp_path / "data", rules=tmp_path / "rules", show="show"
    )


def finished(
    farm: QueueFarm,
    place: FarmSettings,
    shot: str,
    *,
    studio: str = STUDIO,
    product: str = "roto",
    approved: bool = True,
    cleared: bool = True,
    layer: str = "matte",
    **more: Any,
) -> VersionView:
    """A published version with its frames on disk."""
    spec = job_spec(FRAMES, shot=shot, studio=studio).model_copy(
        update={"publish_root": str(place.publish_root), **more}
    )
    work = WorkFacts(product=product, memory_mb=1)
    farm.run(farm.dispatcher.submit(spec, job_steps(FRAMES, size=10, fits=False), work=work))
    result = {"version": {"frames": FRAMES, "layers": [], "colorspace": spec.plate.colorspace}}
    while (held := farm.claim("w1", studio=studio)) is not None:
        farm.done(held, studio=studio, result=result)
    (version,) = farm.dispatcher.versions(studio, VersionFilter(), limit=1)
    pattern = FramePattern(Path(version.folder), f"{version.name}.", 4, ".exr")
    pattern.folder.mkdir(parents=True, exist_ok=True)
    window = Window.of_size(48, 32)
    for frame in range(1001, 1005):
        planes = dict(zip("RGB", picture(frame, 48, 32), strict=True)) | {
            f"{layer}.A": disc(frame, 48, 32).astype("f2")
        }
        write_frame(
            pattern.path(frame), Frame((Part("", {"colorInteropID": "lin_rec709_scene"}, planes, window, window),))
        )
    if approved:
        add = partial(reviews.add, version=version.id, who=boss(studio), kind=ReviewKind.APPROVE)
        farm.run(farm.dispatcher.write(add))
    if cleared:
        clear(farm, (version.show, version.sequence, version.shot), studio)
    return version


def clear(farm: QueueFarm, where: Address, studio: str = STUDIO) -> None:
    farm.run(farm.dispatcher.write(lambda turn: give(turn, studio, "training", where, by="Ann", recorded_by="ann")))


def asked(farm: QueueFarm, place: FarmSettings, inspector: Inspector, **request: Any) -> PreparedTraining:
    studio = request.pop("studio", STUDIO)
    given_ = {"task": "roto", "name": "hero", "parameters": {"iterations": 1}, **request}
    return prepare_training(
        TrainingRequest(**given_), studio=studio, user="ann", settings=place, dispatcher=farm.dispatcher,
        inspector=inspector,
    )  # fmt: skip


def refusal(farm: QueueFarm, place: FarmSettings, inspector: Inspector, **request: Any) -> list[str]:
    with pytest.raises(SubmissionRefused) as refused:
        asked(farm, place, inspector, **request)
    return [f"{fault.where}: {fault.message}" for fault in refused.value.faults]


def shots(lessons: Sequence[Any]) -> list[str]:
    return [one.shot for one in lessons]


def card(farm: QueueFarm, **more: Any) -> CardView:
    given_ = {
        "studio": STUDIO, "task": "roto", "name": "seen", "family": "net", "sha256": "a" * 64, "path": "/gone", "base": "",
        "licence": "MIT", "created_by": "ann",
    }  # fmt: skip
    new = NewCard(**{**given_, **more})
    return farm.run(farm.dispatcher.write(lambda turn: add_card(turn, new)))


def aside(farm: QueueFarm, studio: str = STUDIO) -> set[str]:
    return {shot[2] for shot in farm.dispatcher.read(lambda turn: held_out(turn.tx, studio, "roto"))}


# What is learned from, and by what it is judged


def test_without_a_word_all_approved_versions_are_taken_and_one_shot_in_five_is_set_aside(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    names = [f"sh{i:03d}" for i in range(5)]
    for name in names:
        finished(farm, place, name)
    finished(farm, place, "draft", approved=False)
    prepared = asked(farm, place, inspector)
    assert len(prepared.spec.held_out) == 1 and len(prepared.spec.lessons) == 4
    assert sorted(shots(prepared.spec.held_out) + shots(prepared.spec.lessons)) == names
    assert {shot[2] for shot in prepared.set_aside} == set(shots(prepared.spec.held_out))
    assert aside(farm) == set(), "looking at a request sets nothing aside"
    assert asked(farm, place, inspector).spec.held_out == prepared.spec.held_out
    assert all(one.clearance["by"] == "Ann" for one in prepared.spec.lessons)


def test_versions_that_are_named_give_up_a_shot_to_judge_by_where_none_is_held_out_yet(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    named = [finished(farm, place, name).name for name in ("sh010", "sh020", "sh030")]
    prepared = asked(farm, place, inspector, versions=named)
    assert len(prepared.spec.held_out) == 1
    assert len(prepared.spec.lessons) == 2


def test_a_held_out_shot_among_the_versions_that_are_named_is_refused(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    named = [finished(farm, place, name).name for name in ("sh010", "sh020", "sh030")]
    (fault,) = refusal(farm, place, inspector, versions=named, hold_out=["show/sq01/sh020"])
    assert "show_sq01_sh020_roto_v001 is of show/sq01/sh020, which is held out" in fault
    farm.run(
        farm.dispatcher.write(
            partial(hold_out, studio=STUDIO, task="roto", shots=[("show", "sq01", "sh010")], by="ann")
        )
    )
    (fault,) = refusal(farm, place, inspector, versions=named)
    assert "sh010" in fault
    prepared = asked(farm, place, inspector)
    assert shots(prepared.spec.held_out) == ["sh010"] and shots(prepared.spec.lessons) == ["sh020", "sh030"]


@pytest.mark.parametrize("text", ["", "show", "a/b/c/d", "show//sh010", "/", "show/sq01/", "\u2028/x", "x" * 10_000])
def test_what_names_no_shot_is_refused_as_held_out(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector, text: str
) -> None:
    finished(farm, place, "sh010"), finished(farm, place, "sh020")
    faults = refusal(farm, place, inspector, hold_out=[text])
    assert any(fault.startswith("hold_out") for fault in faults)


def test_a_single_shot_can_not_be_learned_from_since_nothing_is_left_to_judge_by(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    finished(farm, place, "sh010")
    assert refusal(farm, place, inspector) == ["hold_out: no shot is left to judge by"]
    assert "versions: there is no approved version of roto or matte to learn from" in refusal(
        farm, place, inspector, show="nowhere"
    )


def test_a_shot_without_consent_is_refused_by_name(farm: QueueFarm, place: FarmSettings, inspector: Inspector) -> None:
    for name in ("sh010", "sh020", "sh030"):
        finished(farm, place, name, cleared=name != "sh020")
    (fault,) = refusal(farm, place, inspector, hold_out=["show/sq01/sh030"])
    assert "show_sq01_sh020_roto_v001" in fault and "training" in fault
    clear(farm, ("show", "sq01", ""))
    assert len(asked(farm, place, inspector, hold_out=["show/sq01/sh030"]).spec.lessons) == 2


def test_a_base_that_saw_the_held_out_shot_is_refused_however_far_below(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    for name in ("sh010", "sh020"):
        finished(farm, place, name)
    learned = {"versions": [{"shot": "show/sq01/sh020"}]}
    below = card(farm, name="below", lineage=learned)
    middle = card(farm, name="middle", sha256="b" * 64, base_model=below.id)
    top = card(farm, name="top", sha256="c" * 64, base_model=middle.id)
    faults = refusal(farm, place, inspector, base=top.label, hold_out=["show/sq01/sh020"])
    assert any(f"{below.label} learned from show/sq01/sh020" in fault for fault in faults)


def test_two_trainings_that_were_looked_at_at_once_never_learn_from_what_the_other_set_aside(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    for name in ("sh010", "sh020", "sh030"):
        finished(farm, place, name)
    one = asked(farm, place, inspector, hold_out=["show/sq01/sh010"])
    other = asked(farm, place, inspector, hold_out=["show/sq01/sh020"])
    submit_prepared(farm, one)
    with pytest.raises(SubmissionRefused, match="sh010 was held out a moment ago"):
        submit_prepared(farm, other)
    assert aside(farm) == {"sh010"}, "a refused training sets nothing aside"
    assert len(farm.dispatcher.jobs(STUDIO)) == 4


def submit_prepared(farm: QueueFarm, prepared: PreparedTraining) -> None:
    spec = prepared.spec
    before = partial(
        hold_out, studio=spec.studio, task=spec.task, shots=prepared.set_aside, by="ann",
        learned={(one.show, one.sequence, one.shot) for one in spec.lessons},
    )  # fmt: skip
    farm.run(farm.dispatcher.submit(spec, prepared.steps, work=prepared.work, before=before))


def test_a_matte_is_learned_from_with_the_picture_of_its_plate_and_a_roto_with_its_own(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector, tmp_path: Path
) -> None:
    source = finished(farm, place, "sh000", approved=False)
    found = inspect_plate(f"{source.folder}/{source.name}.####.exr", frames=None, colorspace=None)
    assert found.plate is not None
    plate = PlateSpec.of(found.plate, found.source_colorspace)
    finished(farm, place, "sh010")
    made = {"product": "matte", "plate": plate, "input_hashes": dict(found.hashes)}
    finished(farm, place, "sh020", **made)
    finished(farm, place, "sh030")
    spec = asked(farm, place, inspector, hold_out=["show/sq01/sh030"]).spec
    own, matte = spec.lessons
    assert own.picture is None
    assert matte.picture is not None and matte.picture.pattern == plate.pattern
    (Path(source.folder) / f"{source.name}.1001.exr").unlink()
    (fault,) = refusal(farm, place, inspector, hold_out=["show/sq01/sh030"])
    assert "which show_sq01_sh020_matte_v001 was made of, lacks the frames 1001" in fault


# What is refused


def test_every_fault_of_a_request_is_told_at_once(farm: QueueFarm, place: FarmSettings, inspector: Inspector) -> None:
    finished(farm, place, "sh010")
    faults = refusal(
        farm, place, inspector, name="roto", base="nobody", versions=["7", "no-such"], hold_out=["x"],
        parameters={"iterations": 0, "bogus": 1},
    )  # fmt: skip
    places = {fault.split(":")[0] for fault in faults}
    assert {"name", "base", "version 7", "version no-such", "hold_out", "parameter iterations"} <= places
    assert any("bogus" in fault for fault in faults)


def test_frames_that_are_gone_or_lack_the_matte_are_refused_before_anything_runs(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    gone = finished(farm, place, "sh010")
    finished(farm, place, "sh020", layer="depth")
    finished(farm, place, "sh030")
    (Path(gone.folder) / f"{gone.name}.1003.exr").unlink()
    faults = refusal(farm, place, inspector, hold_out=["show/sq01/sh030"])
    assert any("lacks the frames 1003" in fault for fault in faults)
    assert any("has no layer matte, only" in fault for fault in faults)


def test_a_retired_base_and_one_of_another_family_are_refused(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    finished(farm, place, "sh010"), finished(farm, place, "sh020")
    old = card(farm, name="old")
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, old)))
    assert any("old@v001 is retired" in fault for fault in refusal(farm, place, inspector, base="old@v001"))
    card(farm, name="sam", family="sam2")
    assert any("of the family sam2" in fault for fault in refusal(farm, place, inspector, base="sam@v001"))


@pytest.mark.parametrize("show", ["..", "a/b", "x_y", "\u2028", "s" * 65])
def test_a_show_that_can_not_be_one_is_refused(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector, show: str
) -> None:
    request = {"task": "roto", "name": "hero", "show": show}
    with pytest.raises((SubmissionRefused, ValueError)):
        asked(farm, place, inspector, **request)


def test_a_task_that_learns_nothing_is_refused(farm: QueueFarm, place: FarmSettings, inspector: Inspector) -> None:
    assert refusal(farm, place, inspector, task="matte") == ["task: Matte has nothing that learns"]
    assert refusal(farm, place, inspector, task="nothing")[0].startswith("task:")


def test_a_budget_that_is_used_up_refuses_a_training_and_a_judgement(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    for name in ("sh010", "sh020"):
        finished(farm, place, name)
    seen = card(farm)
    farm.run(
        farm.dispatcher.write(partial(hold_out, studio=STUDIO, task="roto", shots=[("show", "sq01", "sh010")], by="a"))
    )
    assert place.rules is not None
    (place.rules / "local.toml").write_text('[budget]\nperiod = "total"\nmachine_hours = 0\n')
    (fault,) = refusal(farm, place, inspector)
    assert "budget" in fault and "machine-hours" in fault
    with pytest.raises(SubmissionRefused) as refused:
        judged(farm, place, inspector, seen)
    assert any("machine-hours" in fault.message for fault in refused.value.faults)


def test_a_budget_in_money_without_prices_is_refused_as_not_known(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    for name in ("sh010", "sh020"):
        finished(farm, place, name)
    assert place.rules is not None
    (place.rules / "local.toml").write_text("[budget]\nmoney = 1000\n")
    (fault,) = refusal(farm, place, inspector)
    assert "what it has spent isn't known" in fault


# Another studio


def test_another_studios_versions_are_not_there_by_number_or_name(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    theirs = finished(farm, place, "sh777", studio="guest")
    finished(farm, place, "sh010"), finished(farm, place, "sh020")
    for text in (str(theirs.id), theirs.name):
        here = refusal(farm, place, inspector, versions=[text])
        nowhere = refusal(farm, place, inspector, versions=["9999" if text.isdigit() else "show_sq01_sh778_roto_v001"])
        assert len(here) == len(nowhere)
        assert [f.replace(text, "X") for f in here] == [
            f.replace("9999" if text.isdigit() else "show_sq01_sh778_roto_v001", "X") for f in nowhere
        ]
    assert "sh777" not in shots(asked(farm, place, inspector).spec.lessons)
    (fault, *_) = refusal(farm, place, inspector, hold_out=["show/sq01/sh777"])
    assert "show/sq01/sh777 is held out and has no approved version" in fault


def test_what_another_studio_holds_out_or_clears_counts_for_nobody_else(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    for name in ("sh010", "sh020"):
        finished(farm, place, name, cleared=False)
    clear(farm, ("show", "", ""), "guest")
    farm.run(
        farm.dispatcher.write(
            partial(hold_out, studio="guest", task="roto", shots=[("show", "sq01", "sh010")], by="ann")
        )
    )
    assert any("training" in fault for fault in refusal(farm, place, inspector))
    assert aside(farm) == set()


def test_another_studios_base_is_not_there(farm: QueueFarm, place: FarmSettings, inspector: Inspector) -> None:
    finished(farm, place, "sh010"), finished(farm, place, "sh020")
    theirs = card(farm, studio="guest", name="secret", sha256="d" * 64)
    for text in (theirs.label, theirs.name, str(theirs.id), "sha256:" + "d" * 64):
        (fault,) = refusal(farm, place, inspector, base=text)
        assert fault == f"base: no model is called {text!r}"


# Judgements


def judged(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector, of: CardView, **request: Any
) -> PreparedTraining:
    return prepare_scoring(
        of, ScoringRequest(**request), user="ann", settings=place, dispatcher=farm.dispatcher, inspector=inspector
    )


def test_a_model_is_not_judged_by_a_shot_that_it_learned_from_nor_by_none(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector
) -> None:
    finished(farm, place, "sh010")
    seen = card(farm, lineage={"versions": [{"shot": "show/sq01/sh010"}]})
    with pytest.raises(SubmissionRefused, match="no shot is held out"):
        judged(farm, place, inspector, seen)
    farm.run(
        farm.dispatcher.write(partial(hold_out, studio=STUDIO, task="roto", shots=[("show", "sq01", "sh010")], by="a"))
    )
    with pytest.raises(SubmissionRefused) as refused:
        judged(farm, place, inspector, seen)
    words = [fault.message for fault in refused.value.faults]
    assert "seen@v001 learned from show/sq01/sh010, which is held out" in words
    assert any("there are no weights at /gone" in word for word in words)


def test_a_card_whose_weights_were_changed_is_refused_before_it_is_judged(
    farm: QueueFarm, place: FarmSettings, inspector: Inspector, tmp_path: Path
) -> None:
    finished(farm, place, "sh010")
    farm.run(
        farm.dispatcher.write(partial(hold_out, studio=STUDIO, task="roto", shots=[("show", "sq01", "sh010")], by="a"))
    )
    (tmp_path / "w.safetensors").write_bytes(b"other than it was")
    changed = card(farm, path=str(tmp_path / "w.safetensors"))
    with pytest.raises(SubmissionRefused, match="expected aaaaaaaaaaaa"):
        judged(farm, place, inspector, changed)


# Drawing


names = st.text(st.characters(codec="ascii", categories=("Lu", "Ll", "Nd")), min_size=1, max_size=6)
addresses = st.tuples(names, st.one_of(st.just(""), names), names)


@given(st.sets(addresses, max_size=40))
def test_what_is_drawn_is_the_same_each_time_and_never_none_or_all(of: set[Address]) -> None:
    found = drawn(of)
    assert found == drawn(set(sorted(of, reverse=True))) and found <= of
    if len(of) > 1:
        assert 0 < len(found) < len(of)
        assert abs(len(found) - len(of) / 5) <= 1
    else:
        assert found == frozenset()


@given(st.sets(addresses, min_size=12, max_size=40), addresses)
def test_one_shot_more_hardly_changes_what_is_drawn(of: set[Address], more: Address) -> None:
    assert len(drawn(of) - drawn(of | {more})) <= 1


@given(addresses)
def test_an_address_is_read_as_it_is_written(shot: Address) -> None:
    faults: list[Fault] = []
    assert parse_address(text_of(shot), faults) == shot and not faults

"""What a submission is held against before it is dispatched: which model a take gets, whose it is, and what the record says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from farm import presets
from farm.cards import CardView, NewCard, add_card
from farm.gate import Chosen, choose_models, used_models
from farm.inspector import Inspector
from farm.promotions import promote, retire, rollback
from farm.registry import add_model
from farm.settings import FarmSettings
from farm.store import SqlStore
from farm.submitting import Prepared, prepare
from farm.tokens import Identity, Scope
from farm.wire import AddModelBody
from pipeline.errors import StateError, SubmissionRefused
from pipeline.intake import KnownModels, look_at
from pipeline.jobs.spec import InputSpec, JobRequest, ModelSpec, TakeSpec
from pipeline.models.facts import NET_KEY
from pipeline.models.files import sha256_of
from pipeline.policy import UsedModel
from pipeline.tasks.registry import task
from tests.plates import SmallPlate, write_small_plate
from tests.queue_kit import STUDIO, QueueFarm, database_url

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]
BOSS = Identity("sue", STUDIO, frozenset({Scope.WRANGLE}))


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    child = Inspector()
    yield child
    child.close()


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> SmallPlate:
    return write_small_plate(tmp_path_factory.mktemp("plate"), count=4, width=48, height=32)


def card(farm: QueueFarm, name: str = "hero", **more: Any) -> CardView:
    given = {
        "studio": STUDIO, "task": "roto", "name": name, "family": "net", "sha256": name[0].encode().hex() * 32,
        "path": f"/weights/{name}.safetensors", "base": "", "licence": "LicenseRef-local", "created_by": "ann",
    }  # fmt: skip
    new = NewCard(**{**given, **more})
    return farm.run(farm.dispatcher.write(lambda turn: add_card(turn, new)))


def net_at(path: Path, seed: int = 0) -> Path:
    """Weights that say they are a roto net: nothing here loads them."""
    save_file({"a": np.full(3, seed, np.float32)}, path, metadata={NET_KEY: "roto/1"})
    return path


def put_in_production(farm: QueueFarm, of: CardView) -> None:
    farm.run(farm.dispatcher.write(partial(promote, card=of, by="sue", override="looks right")))


def chosen(farm: QueueFarm, task_name: str = "roto", *, studio: str = STUDIO, **request: Any) -> Chosen:
    asked = JobRequest(task=task_name, plate="/p/a.####.exr", **request)
    return choose_models(farm.dispatcher, studio, task(task_name), asked)


def models_of(found: Chosen) -> list[str]:
    return [take.model or "" for take in found.request.asked_takes()]


def faults_of(farm: QueueFarm, task_name: str = "roto", **request: Any) -> list[str]:
    with pytest.raises(SubmissionRefused) as refused:
        chosen(farm, task_name, **request)
    return [f"{fault.where}: {fault.message}" for fault in refused.value.faults]


# Which model a take gets


def test_without_a_word_the_production_model_is_taken_and_the_request_pins_its_number(farm: QueueFarm) -> None:
    assert models_of(chosen(farm)) == [""] and chosen(farm).cards == {}
    one, two = card(farm), card(farm, sha256="9" * 64)
    put_in_production(farm, one)
    assert models_of(chosen(farm)) == ["hero@v001"]
    before = chosen(farm)
    put_in_production(farm, two)
    assert models_of(chosen(farm)) == ["hero@v002"]
    assert models_of(before) == ["hero@v001"], "what was chosen before stays"
    farm.run(farm.dispatcher.write(partial(rollback, studio=STUDIO, task="roto", by="sue")))
    assert models_of(chosen(farm)) == ["hero@v001"]


def test_the_tasks_own_weights_are_had_by_their_name_whatever_is_in_production(farm: QueueFarm) -> None:
    put_in_production(farm, card(farm))
    assert models_of(chosen(farm, model="efficientnet-lite0")) == ["efficientnet-lite0"]
    assert chosen(farm, model="efficientnet-lite0").cards == {}


def test_a_production_model_of_another_family_stands_in_for_nothing(farm: QueueFarm) -> None:
    put_in_production(farm, card(farm, "tracker", family="sam2"))
    assert models_of(chosen(farm)) == [""]
    assert models_of(chosen(farm, model="roto@production")) == ["tracker@v001"]


def test_a_wedge_over_models_takes_each_by_any_of_its_names(farm: QueueFarm) -> None:
    hero, villain = card(farm), card(farm, "villain")
    put_in_production(farm, villain)
    names = [
        "hero",
        "hero@v001",
        f"sha256:{hero.sha256[:12]}",
        str(hero.id),
        "roto@production",
        "",
        "efficientnet-lite0",
    ]
    found = chosen(farm, wedge={"model": names, "iterations": [1]})
    expected = ["hero@v001"] * 4 + ["villain@v001"] * 2 + ["efficientnet-lite0"]
    assert models_of(found) == expected
    assert set(found.cards) == {"hero@v001", "villain@v001"}
    assert [take.parameters["iterations"] for take in found.request.asked_takes()] == [1] * 7


def test_takes_keep_their_own_words_where_one_of_them_names_a_model(farm: QueueFarm) -> None:
    card(farm)
    takes = [
        {"name": "a", "model": "hero", "parameters": {"iterations": 3}},
        {"name": "b", "model": "/x/net.safetensors"},
    ]
    found = chosen(farm, takes=takes, parameters={"iterations": 7, "seed": 2})
    assert [(t.name, t.model, dict(t.parameters)) for t in found.request.asked_takes()] == [
        ("a", "hero@v001", {"iterations": 3, "seed": 2}),
        ("b", "/x/net.safetensors", {"iterations": 7, "seed": 2}),
    ]


def test_every_model_that_is_not_there_is_told_once(farm: QueueFarm) -> None:
    faults = faults_of(farm, wedge={"model": ["no", "nope", "no@v001", "roto@gone", "9"], "iterations": [1, 2]})
    assert len(faults) == 5
    assert sum("no model is called" in fault for fault in faults) == 4


def test_a_retired_model_is_refused_by_each_of_its_names(farm: QueueFarm) -> None:
    old = card(farm)
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, old)))
    for text in ("hero@v001", str(old.id), f"sha256:{old.sha256}"):
        assert faults_of(farm, model=text) == ["model: hero@v001 is retired"]
    assert faults_of(farm, model="hero") == ["model: no model is called 'hero'"]


def test_a_preset_brings_its_model_unless_it_was_retired_since(farm: QueueFarm) -> None:
    hero = card(farm)
    save = partial(presets.save, who=BOSS, name="soft", task="roto", show="show", model="hero@v001", parameters={})
    farm.run(farm.dispatcher.write(save))
    asked = JobRequest(task="roto", plate="/p.####.exr", show="show", preset="soft")
    with_it = farm.dispatcher.read(partial(presets.with_preset, request=asked, studio=STUDIO))
    assert models_of(choose_models(farm.dispatcher, STUDIO, task("roto"), with_it)) == ["hero@v001"]
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, hero)))
    with pytest.raises(SubmissionRefused, match="hero@v001 is retired"):
        choose_models(farm.dispatcher, STUDIO, task("roto"), with_it)


# A LoRA beside its base


def style_cards(farm: QueueFarm, **more: Any) -> tuple[CardView, CardView]:
    base = card(farm, "paint", task="style_transfer", family="diffusers", path="/weights/paint")
    look = card(farm, "look", task="style_transfer", family="lora", base_model=base.id, **more)
    return base, look


def test_a_lora_stands_for_its_base_with_itself_beside_it(farm: QueueFarm) -> None:
    base, look = style_cards(farm)
    found = chosen(farm, "style_transfer", model="look", parameters={"seed": 4})
    (take,) = found.request.asked_takes()
    assert (take.model, take.parameters) == (base.label, {"seed": 4, "lora": look.path})
    assert set(found.cards) == {base.label}
    assert dict(found.trusted) == {look.path: look.sha256}, "what lies there must be what was registered"


def test_a_lora_beside_another_that_is_given_is_refused_and_beside_itself_is_not(farm: QueueFarm) -> None:
    _, look = style_cards(farm)
    (fault,) = faults_of(farm, "style_transfer", model="look", parameters={"lora": "/other.safetensors"})
    assert "look@v001 goes where the parameter lora is given already" in fault
    assert chosen(farm, "style_transfer", model="look", parameters={"lora": look.path}).cards


def test_a_lora_whose_base_has_no_card_is_refused(farm: QueueFarm) -> None:
    card(farm, "stray", task="style_transfer", family="lora")
    assert faults_of(farm, "style_transfer", model="stray") == ["model: the base of stray@v001 has no card"]


def test_weights_of_a_card_that_changed_where_a_parameter_names_them_are_refused(
    plate: SmallPlate, tmp_path: Path
) -> None:
    path = tmp_path / "look.safetensors"
    path.write_bytes(b"other than it was")
    request = JobRequest(task="style_transfer", plate=str(plate.pattern), parameters={"lora": str(path)})

    def faults(sha256: str) -> list[str]:
        known = KnownModels(trusted={str(path): sha256})
        found = look_at(request, roots=[], publish_root=tmp_path / "out", known=known).faults
        return [fault.message for fault in found if fault.where == "parameter lora"]

    assert any("expected aaaaaaaaaaaa" in message for message in faults("a" * 64))
    assert not any("expected" in message for message in faults(sha256_of(path)))


# Whose weights they are


def used(farm: QueueFarm, *takes: TakeSpec, task_name: str = "roto", studio: str = STUDIO) -> tuple[UsedModel, ...]:
    return farm.dispatcher.read(lambda turn: used_models(turn.tx, studio, task(task_name), takes))


def take_with(sha256: str = "", **more: Any) -> TakeSpec:
    path = "/inbox/w.safetensors" if sha256 else None
    model = ModelSpec(name="w", path=path, sha256=sha256, family="net")
    return TakeSpec(index=0, name="take-1", seed=1, parameters={}, model=model, **more)


def test_rules_see_all_that_a_take_loads_with_what_it_was_made_from(farm: QueueFarm) -> None:
    base, look = style_cards(farm, licence="CC-BY-NC-4.0")
    beside = {"inputs": {"lora": InputSpec(path="/l.safetensors")}, "weights": {"lora": look.sha256}}
    found = used(farm, take_with(base.sha256, **beside), task_name="style_transfer")
    assert {(model.name, model.licence) for model in found} == {
        ("paint@v001", "LicenseRef-local"),
        ("look@v001", "CC-BY-NC-4.0"),
        ("paint@v001, the base of look@v001", "LicenseRef-local"),
    }
    (own,) = used(farm, take_with())
    assert (own.name, own.licence, own.shipped) == ("efficientnet-lite0", "Apache-2.0", True)
    (nobodys,) = used(farm, take_with("7" * 64))
    assert (nobodys.registered, nobodys.licence) == (False, "")


def test_weights_with_a_card_are_known_by_their_hash_wherever_they_lie(farm: QueueFarm) -> None:
    hero = card(farm)
    (found,) = used(farm, take_with(hero.sha256))
    assert (found.name, found.registered) == ("hero@v001", True)
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, hero)))
    with pytest.raises(SubmissionRefused, match="hero@v001 is retired"):
        used(farm, take_with(hero.sha256))


def test_another_studios_model_is_not_there_by_any_name(farm: QueueFarm) -> None:
    theirs = card(farm, "secret", studio="guest", sha256="5" * 64)
    farm.run(farm.dispatcher.write(partial(promote, card=theirs, by="bob", override="ours")))
    for text in ("secret", "secret@v001", str(theirs.id), "sha256:" + "5" * 64):
        assert faults_of(farm, model=text) == [f"model: no model is called {text!r}"]
    assert faults_of(farm, model="absent") == ["model: no model is called 'absent'"]
    assert models_of(chosen(farm)) == [""], "nor does their production model stand in"
    assert faults_of(farm, model="roto@production") == ["model: nothing was promoted to roto@production yet"]


def test_another_studios_weights_by_path_or_beside_a_base_are_refused_without_saying_whose(farm: QueueFarm) -> None:
    card(farm, "secret", studio="guest", sha256="5" * 64)
    beside = {"inputs": {"lora": InputSpec(path="/inbox/l.safetensors")}, "weights": {"lora": "5" * 64}}
    for take in (take_with("5" * 64), take_with("", **beside)):
        with pytest.raises(SubmissionRefused) as refused:
            used(farm, take)
        (fault,) = refused.value.faults
        assert "have no card here" in fault.message
        said = f"{fault.message} {fault.hint}".lower()
        assert not any(word in said for word in ("studio", "guest", "secret", "elsewhere", "other"))
    mine = card(farm, "mine", sha256="5" * 64)
    assert used(farm, take_with("5" * 64))[0].name == mine.label, "weights that both have are each one's own"


def added(farm: QueueFarm, place: FarmSettings, inspector: Inspector, path: Path, **more: Any) -> CardView:
    body = AddModelBody(**{"task": "roto", "name": "found", "path": str(path), "licence": "MIT", **more})
    keep = add_model(body, studio=STUDIO, user="ann", settings=place, dispatcher=farm.dispatcher, inspector=inspector)
    return farm.run(farm.dispatcher.write(keep))


def test_weights_that_another_studio_trained_can_not_be_added_and_are_answered_as_if_nothing_lay_there(
    farm: QueueFarm, inspector: Inspector, tmp_path: Path
) -> None:
    place = FarmSettings.read({}, publish_root=tmp_path / "pub", data=tmp_path / "data")
    weights = net_at(tmp_path / "net.safetensors")
    job = farm.submit(studio="guest").id
    card(farm, "secret", studio="guest", sha256=sha256_of(weights), path=str(weights), job=job)
    with pytest.raises(SubmissionRefused) as refused:
        added(farm, place, inspector, weights)
    with pytest.raises(SubmissionRefused) as absent:
        added(farm, place, inspector, tmp_path / "gone.safetensors")
    here, nowhere = refused.value.faults[0], absent.value.faults[0]
    assert here.message.replace("net", "gone") == nowhere.message
    assert (here.where, here.hint) == (nowhere.where, nowhere.hint)


def test_weights_that_another_studio_only_added_may_be_added_here_too(
    farm: QueueFarm, inspector: Inspector, tmp_path: Path
) -> None:
    place = FarmSettings.read({}, publish_root=tmp_path / "pub", data=tmp_path / "data")
    weights = net_at(tmp_path / "net.safetensors")
    card(farm, "public", studio="guest", sha256=sha256_of(weights), path=str(weights))
    assert added(farm, place, inspector, weights).label == "found@v001"
    with pytest.raises(StateError, match="found@v001 already"):
        added(farm, place, inspector, weights)


# From a request to a job


def prepared(farm: QueueFarm, inspector: Inspector, plate: SmallPlate, folder: Path, **request: Any) -> Prepared:
    place = FarmSettings.read({}, publish_root=folder / "pub", data=folder / "data", show="show")
    asked = JobRequest(**plate.request(shot="sh010", **request))
    return prepare(
        asked, studio=STUDIO, user="ann", settings=place, dispatcher=farm.dispatcher, inspector=inspector,
        draw_seed=lambda: 3,
    )  # fmt: skip


def test_a_job_pins_the_digest_of_the_production_model_and_a_promotion_meanwhile_changes_nothing(
    farm: QueueFarm, inspector: Inspector, plate: SmallPlate, tmp_path: Path
) -> None:
    cards = []
    for name in ("hero", "villain"):
        weights = net_at(tmp_path / f"{name}.safetensors", seed=len(cards))
        cards.append(card(farm, name, sha256=sha256_of(weights), path=str(weights)))
    put_in_production(farm, cards[0])
    one = prepared(farm, inspector, plate, tmp_path)
    put_in_production(farm, cards[1])
    model = one.spec.takes[0].model
    assert (model.card, model.sha256, model.licence) == ("hero@v001", cards[0].sha256, "LicenseRef-local")
    job = farm.run(farm.dispatcher.submit(one.spec, one.steps, work=one.work, key="k", asked="text")).job
    assert farm.dispatcher.spec(STUDIO, job.id).takes[0].model == model
    # The same request again, sent since its answer was lost: production is another model now, the job is the same.
    two = prepared(farm, inspector, plate, tmp_path)
    assert two.spec.takes[0].model.card == "villain@v001"
    again = farm.run(farm.dispatcher.submit(two.spec, two.steps, work=two.work, key="k", asked="text"))
    assert (again.job.id, again.created) == (job.id, False)
    assert json.loads(one.spec.model_dump_json())["policy"] == one.spec.policy, "the decision is kept as it is"


def test_a_card_whose_weights_are_gone_or_changed_and_a_hash_that_is_not_its_are_refused(
    farm: QueueFarm, inspector: Inspector, plate: SmallPlate, tmp_path: Path
) -> None:
    weights = net_at(tmp_path / "hero.safetensors")
    card(farm, sha256=sha256_of(weights), path=str(weights))
    assert prepared(farm, inspector, plate, tmp_path, model="hero").spec.takes[0].model.card == "hero@v001"
    with pytest.raises(SubmissionRefused, match="hero@v001 has the sha256"):
        prepared(farm, inspector, plate, tmp_path, model="hero", model_sha256="c" * 64)
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(SubmissionRefused, match="have the sha256"):
        prepared(farm, inspector, plate, tmp_path, model="hero")
    weights.unlink()
    with pytest.raises(SubmissionRefused, match="there are no weights at"):
        prepared(farm, inspector, plate, tmp_path, model="hero")


def test_weights_by_path_that_have_a_card_are_told_to_the_rules_by_it(
    farm: QueueFarm, inspector: Inspector, plate: SmallPlate, tmp_path: Path
) -> None:
    weights = net_at(tmp_path / "hero.safetensors")
    card(farm, sha256=sha256_of(weights), path=str(weights))
    spec = prepared(farm, inspector, plate, tmp_path, model=str(weights)).spec
    (model,) = spec.policy["subject"]["models"]
    assert (model["name"], model["registered"]) == ("hero@v001", True)

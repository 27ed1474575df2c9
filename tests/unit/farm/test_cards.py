"""Model cards: found by each of their names, by their own studio alone, whatever text is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.cards import CardView, NewCard, add_card, card_of_job, find_card, get_card, list_cards, scores
from farm.promotions import promote, promotions, retire
from farm.states import ModelState
from farm.store import SqlStore
from pipeline.errors import ModelError, NotFoundError, PipelineError, StateError
from pipeline.shot import ShotNameError
from tests.queue_kit import STUDIO, QueueFarm, database_url, open_farm
from tests.unit.farm.test_registering import train, training_spec

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


def new_card(name: str = "hero", digest: str = "a", **more: Any) -> NewCard:
    given_ = {
        "studio": STUDIO, "task": "roto", "name": name, "family": "net", "sha256": (digest * 64)[:64], "path": f"/w/{name}",
        "base": "", "licence": "MIT", "created_by": "ann",
    }  # fmt: skip
    return NewCard(**{**given_, **more})


def add(farm: QueueFarm, *args: Any, **more: Any) -> CardView:
    return farm.run(farm.dispatcher.write(partial(add_card, new=new_card(*args, **more), tasks=["roto", "matte"])))


def find(farm: QueueFarm, text: str, studio: str = STUDIO, task: str | None = "roto") -> CardView:
    return farm.dispatcher.read(lambda turn: find_card(turn.tx, studio, text, task=task))


def test_numbers_count_up_within_a_name_of_a_task_and_a_studio(farm: QueueFarm) -> None:
    assert [add(farm, digest=d).label for d in "abc"] == ["hero@v001", "hero@v002", "hero@v003"]
    assert add(farm, task="style_transfer").label == "hero@v001"
    assert add(farm, studio="guest").label == "hero@v001"
    assert add(farm, "villain").label == "villain@v001"
    with pytest.raises(StateError, match="these weights are hero@v002 already"):
        add(farm, digest="b")


@pytest.mark.parametrize("name", ["roto", "matte"])
def test_a_model_has_no_tasks_name(farm: QueueFarm, name: str) -> None:
    with pytest.raises(ModelError, match="that is a task"):
        add(farm, name)


@pytest.mark.parametrize("name", ["", "a@b", "a_b", "..", "a/b", "ä", "n" * 65, "a\x00", " a", "-a"])
def test_a_name_that_no_path_can_carry_is_refused(farm: QueueFarm, name: str) -> None:
    with pytest.raises(ShotNameError):
        add(farm, name)


def test_a_card_is_found_by_label_number_digest_alias_and_name(farm: QueueFarm) -> None:
    one, two = add(farm, digest="a1"), add(farm, digest="b2")
    farm.run(farm.dispatcher.write(partial(promote, card=one, by="sue", override="why")))
    for text in ("hero@v001", str(one.id), f"sha256:{one.sha256}", f"sha256:{one.sha256[:12]}", "roto@production"):
        assert find(farm, text).id == one.id, text
    assert find(farm, "hero").id == two.id, "the newest"
    assert find(farm, "hero@v001").aliases == ("production",)
    assert find(farm, "hero@v002").aliases == ()


def test_a_beginning_that_several_digests_share_and_a_name_of_several_tasks_ask_for_more(farm: QueueFarm) -> None:
    add(farm, sha256="a" * 12 + "1" * 52)
    add(farm, sha256="a" * 12 + "2" * 52)
    with pytest.raises(NotFoundError, match="several models begin with"):
        find(farm, "sha256:" + "a" * 12)
    assert find(farm, "sha256:" + "a" * 12 + "2").label == "hero@v002"
    add(farm, task="style_transfer", digest="c")
    for text in ("hero", "hero@v001"):
        with pytest.raises(NotFoundError, match=r"may be any of roto: hero@v001.*, style_transfer: hero@v001"):
            find(farm, text, task=None)


def test_no_name_of_another_studios_card_says_more_than_one_of_none(farm: QueueFarm) -> None:
    theirs = add(farm, "secret", studio="guest", digest="5")
    farm.run(farm.dispatcher.write(partial(promote, card=theirs, by="bob", override="ours")))
    for task in ("roto", None):
        for text, nowhere in (
            ("secret", "absent"), ("secret@v001", "absent@v001"), (str(theirs.id), "99"),
            ("sha256:" + "5" * 64, "sha256:" + "6" * 64), ("sha256:" + "5" * 12, "sha256:" + "6" * 12),
            ("roto@production", "roto@nothing"),
        ):  # fmt: skip
            with pytest.raises(NotFoundError) as here:
                find(farm, text, task=task)
            with pytest.raises(NotFoundError) as absent:
                find(farm, nowhere, task=task)
            assert here.value.message.replace(text, nowhere) == absent.value.message
            assert here.value.hint == absent.value.hint
    look = farm.dispatcher.read
    assert look(lambda turn: list_cards(turn.tx, STUDIO)) == ()
    assert look(lambda turn: promotions(turn.tx, STUDIO)) == ()
    with pytest.raises(NotFoundError):
        look(lambda turn: get_card(turn.tx, STUDIO, theirs.id))


def test_another_studios_scores_and_the_card_of_its_training_are_not_there(farm: QueueFarm) -> None:
    job, card = train(farm)
    for model in (card.id, None):
        assert farm.dispatcher.read(lambda turn, m=model: scores(turn.tx, "guest", "roto", model=m)) == ()  # type: ignore[misc]
    assert farm.dispatcher.read(lambda turn: card_of_job(turn.tx, "guest", job.id)) is None
    with pytest.raises(NotFoundError):
        farm.dispatcher.any_spec("guest", job.id)
    assert training_spec().studio == STUDIO


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text("@v0123sha:256aheroto%_\\'\"\x00", max_size=40),
    st.sampled_from(
        [
            "@" * 10_000, "x" * 10_000, "9" * 10_000, "hero@v" + "9" * 4_000, "sha256:" + "a" * 10_000, "hero@v٠٠١", "٣", "²",
            "hero@", "@hero", "hero@v1", "hero@@v001", "roto@production@production", "HERO@V001", "", "\x00", "hero\x00",
            "-1", "999999999999999999999", "99999999999999999", "%", "_ero", "sha256:" + "%" * 12, "hero@v001\n",
        ]
    ),
)  # fmt: skip


def check_any_text(farm: QueueFarm, text: str) -> None:
    for task in ("roto", None):
        try:
            found = find(farm, text, task=task)
        except PipelineError as error:
            assert error.hint
            continue
        assert found.studio == STUDIO
        named = (found.label, str(found.id), found.name, "roto@production")
        digest = text.startswith("sha256:") and found.sha256.startswith(text[7:])
        assert digest or text in named or (text.startswith("hero@v") and int(text[6:]) == found.number)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_whatever_is_asked_for_the_answer_is_a_card_of_that_name_or_that_there_is_none(texts: list[str]) -> None:
    with open_farm() as farm:
        add(farm), add(farm, "secret", studio="guest")
        for text in texts:
            check_any_text(farm, text)


@pytest.mark.parametrize(
    "text", ["\x00", "hero\x00", "9" * 17, "x" * 10_000, "@" * 10_000, "sha256:" + "a" * 64, "%", "hero@v9999"]
)
def test_odd_texts_are_answered_alike_by_every_database(farm: QueueFarm, text: str) -> None:
    add(farm, "other", digest="b")
    with pytest.raises(NotFoundError):
        find(farm, text)


def test_a_retired_card_is_found_by_its_label_and_not_by_its_name(farm: QueueFarm) -> None:
    old = add(farm)
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, old)))
    assert find(farm, "hero@v001").state is ModelState.RETIRED
    with pytest.raises(NotFoundError):
        find(farm, "hero")
    assert farm.dispatcher.read(lambda turn: list_cards(turn.tx, STUDIO, retired=False)) == ()

"""Reviews: whose word counts, what is taken back, what may be learned from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm import reviews
from farm.events import Event, EventKind
from farm.records import VersionFilter, VersionView
from farm.reviews import Approval, ReviewKind, Taste
from farm.store import SqlStore
from farm.tokens import Identity, Scope
from farm.web.render import STATIC
from pipeline.errors import AuthError, NotFoundError, ParameterError, StateError
from tests.queue_kit import STUDIO, QueueFarm, database_url, open_farm

ANN = Identity("ann", STUDIO, frozenset({Scope.REVIEW}))
BOB = Identity("bob", STUDIO, frozenset({Scope.REVIEW}))
SUE = Identity("sue", STUDIO, frozenset({Scope.WRANGLE}))
STRANGER = Identity("sue", "guest", frozenset({Scope.ADMIN}))


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm() as opened:
        yield opened


def published(farm: QueueFarm, **job: Any) -> tuple[VersionView, ...]:
    """The versions of a job that is done, in the order of its takes."""
    number = farm.submit(size=10, **job).id
    farm.finish()
    return farm.dispatcher.job_view(STUDIO, number).versions


def say(farm: QueueFarm, version: int, who: Identity, kind: ReviewKind, value: int = 1, **more: Any) -> Taste:
    return farm.run(
        farm.dispatcher.write(partial(reviews.add, version=version, who=who, kind=kind, value=value, **more))
    )


def taste(farm: QueueFarm, version: int, who: Identity = ANN, studio: str = STUDIO) -> Taste:
    return farm.dispatcher.read(lambda turn: reviews.of_versions(turn.tx, studio, [version], user=who.name))[version]


def approved(farm: QueueFarm, **wanted: Any) -> list[str]:
    wanted = {"products": ("roto",), **wanted}
    return [view.name for view in farm.dispatcher.read(lambda turn: reviews.approved(turn.tx, STUDIO, **wanted))]


def test_a_version_that_nobody_spoke_of_has_an_empty_taste(farm: QueueFarm) -> None:
    (version,) = published(farm)
    assert taste(farm, version.id) == Taste()
    assert taste(farm, 99) == Taste()
    assert farm.dispatcher.read(lambda turn: reviews.of_versions(turn.tx, STUDIO, [])) == {}


def test_the_mean_counts_everybodys_newest_rating_once(farm: QueueFarm) -> None:
    (version,) = published(farm)
    say(farm, version.id, ANN, ReviewKind.RATE, 1)
    say(farm, version.id, BOB, ReviewKind.RATE, 5)
    told = say(farm, version.id, ANN, ReviewKind.RATE, 4)
    assert (told.rating, told.ratings, told.my_rating) == (4.5, 2, 4)
    assert taste(farm, version.id, BOB).my_rating == 5
    told = say(farm, version.id, ANN, ReviewKind.RATE, 0)
    assert (told.rating, told.ratings, told.my_rating) == (5.0, 1, None)


def test_a_person_picks_one_take_of_a_job_at_most(farm: QueueFarm) -> None:
    one, two, three = published(farm, takes=3)
    (other,) = published(farm)
    say(farm, other.id, ANN, ReviewKind.PICK)
    say(farm, one.id, ANN, ReviewKind.PICK)
    say(farm, one.id, BOB, ReviewKind.PICK)
    assert say(farm, two.id, ANN, ReviewKind.PICK).picked_by == ("ann",)
    assert taste(farm, one.id).picked_by == ("bob",)
    assert taste(farm, three.id).picked_by == ()
    assert taste(farm, other.id).my_pick, "another job's pick stays"
    assert say(farm, two.id, ANN, ReviewKind.PICK, 0).picked_by == ()
    assert taste(farm, one.id).picked_by == ("bob",), "taking a pick back brings no older one back"


def test_notes_stay_in_order_with_their_writers(farm: QueueFarm) -> None:
    (version,) = published(farm)
    say(farm, version.id, ANN, ReviewKind.NOTE, text="edge boils at 1004")
    farm.clock.now += 60
    told = say(farm, version.id, BOB, ReviewKind.NOTE, text="über gut\nsecond line")
    assert [(note.user, note.text) for note in told.notes] == [
        ("ann", "edge boils at 1004"),
        ("bob", "über gut\nsecond line"),
    ]
    assert told.notes[1].at - told.notes[0].at == 60


def test_whoever_approves_is_named_and_may_take_it_back(farm: QueueFarm) -> None:
    (version,) = published(farm)
    at = farm.clock.now
    assert say(farm, version.id, SUE, ReviewKind.APPROVE).approved_by == Approval("sue", at)
    farm.clock.now += 5
    boss = Identity("boss", STUDIO, frozenset({Scope.ADMIN}))
    assert say(farm, version.id, boss, ReviewKind.APPROVE).approved_by == Approval("boss", at + 5)
    assert say(farm, version.id, boss, ReviewKind.APPROVE, 0).approved_by == Approval("sue", at)
    assert say(farm, version.id, SUE, ReviewKind.APPROVE, 0).approved_by is None
    assert approved(farm) == []


def test_an_approval_needs_the_right_or_the_shows_word(farm: QueueFarm) -> None:
    (version,) = published(farm)
    with pytest.raises(AuthError, match=f"ann may not approve {version.name}") as refusal:
        say(farm, version.id, ANN, ReviewKind.APPROVE)
    assert "wrangle" in refusal.value.hint
    named: dict[str, Any] = {"approvers": lambda view: ["ann"] if view.show == "show" else []}
    assert say(farm, version.id, ANN, ReviewKind.APPROVE, **named).approved_by is not None
    with pytest.raises(AuthError):
        say(farm, version.id, BOB, ReviewKind.APPROVE, **named)


def test_only_published_versions_can_be_reviewed(farm: QueueFarm) -> None:
    (version,) = farm.submit().versions
    with pytest.raises(StateError, match=f"{version.name} is reserved"):
        say(farm, version.id, ANN, ReviewKind.RATE, 3)
    farm.run(farm.dispatcher.cancel(STUDIO, version.job_id))
    with pytest.raises(StateError, match="is released"):
        say(farm, version.id, ANN, ReviewKind.PICK)


def test_another_studios_version_is_not_there(farm: QueueFarm) -> None:
    (version,) = published(farm)
    say(farm, version.id, SUE, ReviewKind.APPROVE)
    for kind in ReviewKind:
        with pytest.raises(NotFoundError, match=f"there is no version {version.id}"):
            say(farm, version.id, STRANGER, kind, text="mine")
    assert taste(farm, version.id, studio="guest") == Taste()
    read = farm.dispatcher.read
    with pytest.raises(NotFoundError):
        read(lambda turn: reviews.history(turn.tx, "guest", version.id))
    assert read(lambda turn: reviews.approved(turn.tx, "guest", products=("roto",), ids=[version.id])) == ()


@pytest.mark.parametrize(
    ("kind", "value", "text", "says"),
    [
        (ReviewKind.RATE, 6, "", "6 is no value"),
        (ReviewKind.RATE, -1, "", "-1 is no value"),
        (ReviewKind.PICK, 2, "", "2 is no value"),
        (ReviewKind.APPROVE, 5, "", "5 is no value"),
        (ReviewKind.NOTE, 0, " \n", "the note is empty"),
        (ReviewKind.NOTE, 0, "x" * 4001, "4001 characters"),
    ],
)
def test_what_a_kind_has_not_is_refused(farm: QueueFarm, kind: ReviewKind, value: int, text: str, says: str) -> None:
    (version,) = published(farm)
    with pytest.raises(ParameterError, match=says):
        say(farm, version.id, SUE, kind, value, text=text)
    assert farm.dispatcher.read(lambda turn: reviews.history(turn.tx, STUDIO, version.id)) == ()


def test_the_same_word_said_twice_counts_once(farm: QueueFarm) -> None:
    (version,) = published(farm)
    for _ in range(2):
        say(farm, version.id, ANN, ReviewKind.NOTE, text="soft\x00edge")
        say(farm, version.id, ANN, ReviewKind.RATE, 3)
        say(farm, version.id, ANN, ReviewKind.PICK)
        say(farm, version.id, BOB, ReviewKind.PICK, 0)
    said = farm.dispatcher.read(lambda turn: reviews.history(turn.tx, STUDIO, version.id))
    assert [(one.user, one.kind, one.value, one.text) for one in said] == [
        ("ann", ReviewKind.NOTE, 0, "soft\ufffdedge"),
        ("ann", ReviewKind.RATE, 3, ""),
        ("ann", ReviewKind.PICK, 1, ""),
    ]


def test_lists_can_be_held_to_what_is_approved_or_picked(farm: QueueFarm) -> None:
    one, two = published(farm, takes=2)
    say(farm, one.id, SUE, ReviewKind.APPROVE)
    say(farm, two.id, ANN, ReviewKind.PICK)

    def found(**only: Any) -> list[int]:
        return [
            v.id for v in farm.dispatcher.read(lambda turn: reviews.listed(turn.tx, STUDIO, VersionFilter(), **only))
        ]

    assert found() == [two.id, one.id]
    assert found(approved=True) == [one.id] == found(picked=False)
    assert found(approved=False) == [two.id] == found(picked=True)
    assert found(approved=True, picked=True) == []
    named = VersionFilter(name=two.name)
    assert [v.id for v in farm.dispatcher.versions(STUDIO, named)] == [two.id]


def test_the_newest_approved_version_of_each_shot_is_learned_from(farm: QueueFarm) -> None:
    first, second, third = (published(farm, shot="sh020")[0] for _ in range(3))
    (other,) = published(farm, shot="sh010")
    for version in (second, first, other):
        say(farm, version.id, SUE, ReviewKind.APPROVE)
    assert approved(farm) == [other.name, second.name]
    assert approved(farm, ids=[first.id, third.id, 99]) == [first.name]
    assert approved(farm, products=("matte",)) == []
    assert approved(farm, show="another") == []
    say(farm, second.id, SUE, ReviewKind.APPROVE, 0)
    assert approved(farm, show="show") == [other.name, first.name]


def test_whoever_listens_hears_of_a_review_and_of_what_it_took_back(farm: QueueFarm) -> None:
    one, two = published(farm, takes=2)
    heard: list[Event] = []

    async def listen() -> None:
        subscription = farm.dispatcher.subscribe(STUDIO)
        for version in (one, two):
            await farm.dispatcher.write(partial(reviews.add, version=version.id, who=ANN, kind=ReviewKind.PICK))
        while (event := await subscription.next(0.05)) is not None:
            heard.append(event)
        subscription.close()

    farm.run(listen())
    assert {event.kind for event in heard} == {EventKind.REVIEW}
    assert [(event.job_id, event.data["version"], event.data["value"]) for event in heard] == [
        (one.job_id, one.id, 1),
        (one.job_id, one.id, 0),
        (one.job_id, two.id, 1),
    ]


def test_pages_listen_to_every_kind_of_event() -> None:
    (listed,) = re.findall(r"^const KINDS = (\[.*\]);$", (STATIC / "live.js").read_text(), re.MULTILINE)
    assert set(json.loads(listed)) == {*EventKind}


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from("abc"), st.sampled_from(["pick", "rate", "approve"]), st.integers(0, 5)
        ),
        max_size=25,
    )
)
def test_what_stands_is_everybodys_newest_word(said: list[tuple[int, str, str, int]]) -> None:
    """Against a dictionary of last words, in which a pick takes the person's others of the job back."""
    with open_farm() as farm:
        versions = [version.id for version in published(farm, takes=3)]
        model: dict[tuple[str, int, str], int] = {}
        for place, name, kind, number in said:
            value = number if kind == "rate" else min(number, 1)
            who = Identity(name, STUDIO, frozenset({Scope.WRANGLE}))
            say(farm, versions[place], who, ReviewKind(kind), value)
            if kind == "pick" and value:
                model.update({key: 0 for key in model if key[0] == "pick" and key[2] == name})
            model[kind, place, name] = value
        for place, version in enumerate(versions):
            found = taste(farm, version)
            rates = [value for (kind, at, _), value in model.items() if kind == "rate" and at == place and value]
            assert set(found.picked_by) == {n for (k, at, n), v in model.items() if k == "pick" and at == place and v}
            assert found.ratings == len(rates)
            assert found.rating == (sum(rates) / len(rates) if rates else None)
            approvers = {n for (k, at, n), v in model.items() if k == "approve" and at == place and v}
            assert (found.approved_by is not None) == bool(approvers)
            assert found.approved_by is None or found.approved_by.user in approvers


@pytest.mark.parametrize("kind", ["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_reviews_are_the_same_on_every_database(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        farm = QueueFarm(SqlStore.open(url))
        try:
            one, two = published(farm, takes=2)
            say(farm, one.id, ANN, ReviewKind.NOTE, text="nul \x00 there")
            say(farm, one.id, ANN, ReviewKind.PICK)
            say(farm, two.id, SUE, ReviewKind.APPROVE)
            told = taste(farm, one.id)
            assert (told.picked_by, told.notes[0].text) == (("ann",), "nul \ufffd there")
            assert approved(farm) == [two.name]
        finally:
            farm.close()

"""Clearances: a yes is kept with its giver, ended but never removed, and is nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from farm.clearances import give, list_clearances, withdraw
from farm.store import SqlStore
from pipeline.decision import Clearance
from pipeline.errors import NotFoundError, StateError
from pipeline.shot import ShotNameError
from tests.queue_kit import STUDIO, QueueFarm, database_url

KINDS = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        opened = QueueFarm(SqlStore.open(url))
        yield opened
        opened.close()


def say_yes(farm: QueueFarm, *where: str, studio: str = STUDIO, kind: Any = "training") -> Clearance:
    address = (*where, "", "")[:3]
    return farm.run(
        farm.dispatcher.write(lambda turn: give(turn, studio, kind, address, by="Ann", recorded_by="legal"))  # type: ignore[arg-type]
    )


def listed(farm: QueueFarm, studio: str = STUDIO, **of: Any) -> list[int]:
    return [one.id for one in farm.dispatcher.read(lambda turn: list_clearances(turn.tx, studio, **of))]


def end(farm: QueueFarm, clearance: int, studio: str = STUDIO) -> Clearance:
    return farm.run(farm.dispatcher.write(partial(withdraw, studio=studio, clearance=clearance, by="bob")))


def test_a_yes_holds_from_when_it_was_given_until_it_is_withdrawn_and_stays_listed(farm: QueueFarm) -> None:
    given = say_yes(farm, "show", "sq01", "sh010")
    assert given.holds(farm.clock.now) and given.covers("show", "sq01", "sh010")
    farm.clock.now += 10
    ended = end(farm, given.id)
    assert (ended.withdrawn_by, ended.withdrawn_at, ended.by) == ("bob", farm.clock.now, "Ann")
    assert not ended.holds(farm.clock.now) and ended.holds(farm.clock.now - 5)
    assert listed(farm) == [given.id]
    with pytest.raises(StateError, match="withdrawn already"):
        end(farm, given.id)


def test_another_studios_yes_can_neither_be_seen_nor_ended_and_is_answered_like_none(farm: QueueFarm) -> None:
    theirs = say_yes(farm, "show", studio="guest")
    assert listed(farm) == [] and listed(farm, "guest", shows=["show"]) == [theirs.id]
    with pytest.raises(NotFoundError) as here:
        end(farm, theirs.id)
    with pytest.raises(NotFoundError) as absent:
        end(farm, 99)
    assert here.value.message.replace(str(theirs.id), "99") == absent.value.message
    (kept,) = farm.dispatcher.read(lambda turn: list_clearances(turn.tx, "guest"))
    assert kept.withdrawn_at is None


def test_they_are_listed_by_show_and_kind_oldest_first(farm: QueueFarm) -> None:
    one, two, three = say_yes(farm, "a"), say_yes(farm, "b"), say_yes(farm, "a", kind="inputs")
    assert listed(farm) == [one.id, two.id, three.id]
    assert listed(farm, shows=["a"]) == [one.id, three.id]
    assert listed(farm, kind="training") == [one.id, two.id]
    assert listed(farm, shows=[]) == []


@pytest.mark.parametrize("where", [("",), ("a b",), ("a", "x/y"), ("a", "", ".."), ("a", "b", "c" * 65), ("a\x00",)])
def test_a_place_that_can_not_be_one_is_refused(farm: QueueFarm, where: tuple[str, ...]) -> None:
    with pytest.raises(ShotNameError):
        say_yes(farm, *where)
    assert listed(farm) == []

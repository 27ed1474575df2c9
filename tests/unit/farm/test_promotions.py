"""Promotions: won by a score or answered for by a person, taken back in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.cards import CardView, NewCard, ScoreView, add_card, add_score, get_card, in_production
from farm.promotions import PromotionView, promote, promotions, retire, rollback
from farm.states import ModelState
from farm.store import SqlStore
from pipeline.errors import NotFoundError, PipelineError, StateError
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


def card(farm: QueueFarm, name: str, **more: Any) -> CardView:
    given_ = {
        "studio": STUDIO, "task": "roto", "name": name, "family": "net", "sha256": name.encode().hex().ljust(64, "0")[:64],
        "path": f"/w/{name}", "base": "", "licence": "MIT", "created_by": "ann",
    }  # fmt: skip
    new = NewCard(**{**given_, **more})
    return farm.run(farm.dispatcher.write(lambda turn: add_card(turn, new)))


def up(farm: QueueFarm, of: CardView, **more: Any) -> PromotionView:
    def op(turn: Any) -> PromotionView:
        return promote(turn, get_card(turn.tx, of.studio, of.id), by="sue", **more)

    return farm.run(farm.dispatcher.write(op))


def back(farm: QueueFarm, studio: str = STUDIO) -> PromotionView:
    return farm.run(farm.dispatcher.write(partial(rollback, studio=studio, task="roto", by="sue")))


def there(farm: QueueFarm, studio: str = STUDIO) -> str | None:
    found = farm.dispatcher.read(lambda turn: in_production(turn.tx, studio, "roto"))
    return None if found is None else found.label


def score(farm: QueueFarm, of: CardView | None, value: float, protocol: str = "p", measure: str = "jf") -> None:
    job = farm.submit().id
    one = ScoreView(None if of is None else of.id, job, protocol, measure, value, {}, 0.0)
    farm.run(farm.dispatcher.write(lambda turn: add_score(turn, STUDIO, "roto", one)))


def test_a_model_that_won_is_promoted_with_both_scores_as_evidence(farm: QueueFarm) -> None:
    _, hero = train(farm)
    moved = up(farm, hero)
    assert (moved.reason, moved.label, there(farm)) == ("won", "hero@v001", "hero@v001")
    assert moved.evidence["candidate"]["value"] == 0.8 and moved.evidence["present"]["value"] == 0.7
    assert moved.evidence["gain"] == pytest.approx(0.1)
    assert get(farm, hero).state is ModelState.APPROVED


def get(farm: QueueFarm, of: CardView) -> CardView:
    return farm.dispatcher.read(lambda turn: get_card(turn.tx, of.studio, of.id))


@pytest.mark.parametrize(("mine", "theirs"), [(0.7, 0.7), (0.6, 0.7)])
def test_a_model_that_lost_or_drew_needs_a_persons_word(farm: QueueFarm, mine: float, theirs: float) -> None:
    _, hero = train(farm, candidate=mine, present=theirs)
    with pytest.raises(StateError, match=r"hero@v001 didn't win: jf 0\.\d+ against 0\.7000"):
        up(farm, hero)
    assert there(farm) is None and farm.dispatcher.read(lambda turn: promotions(turn.tx, STUDIO)) == ()
    moved = up(farm, hero, override="the edges are better")
    assert (moved.reason, moved.by, moved.evidence["said"]) == ("override", "sue", "the edges are better")
    assert moved.evidence["candidate"]["value"] == mine, "what was known stays in the record"


def test_a_model_without_a_score_needs_a_persons_word(farm: QueueFarm) -> None:
    with pytest.raises(StateError, match="hero@v001 has no score"):
        up(farm, card(farm, "hero"))


@pytest.mark.parametrize("other", [{"protocol": "q"}, {"measure": "worst"}])
def test_scores_that_were_not_measured_alike_win_nothing(farm: QueueFarm, other: dict[str, str]) -> None:
    hero = card(farm, "hero")
    score(farm, hero, 0.9)
    score(farm, None, 0.1, **other)
    with pytest.raises(StateError, match="not measured beside the task's own weights on the same shots"):
        up(farm, hero)


def test_the_newest_score_counts_even_where_an_older_one_won(farm: QueueFarm) -> None:
    hero = card(farm, "hero")
    score(farm, None, 0.5)
    score(farm, hero, 0.9)
    score(farm, hero, 0.4)
    with pytest.raises(StateError, match="didn't win"):
        up(farm, hero)


def test_a_candidate_is_held_against_whoever_is_there_by_then(farm: QueueFarm) -> None:
    """Two trainings beat the task's own weights; the worse one comes too late."""
    _, good = train(farm, candidate=0.9)
    _, fair = train(farm, training_spec(name="fair"), sha256="b2" * 32, candidate=0.8)
    up(farm, good)
    with pytest.raises(StateError, match=r"0\.8000 against 0\.9000 of hero@v001"):
        up(farm, fair)
    assert there(farm) == "hero@v001"


def test_two_promotions_at_once_are_one_after_the_other(farm: QueueFarm) -> None:
    cards = [card(farm, name) for name in ("one", "two")]

    async def both() -> list[Any]:
        moves = [
            farm.dispatcher.write(
                lambda turn, c=c: promote(turn, get_card(turn.tx, STUDIO, c.id), by="sue", override="x")
            )  # type: ignore[misc]
            for c in (*cards, cards[0], cards[1])
        ]
        return await asyncio.gather(*moves, return_exceptions=True)

    assert [type(one).__name__ for one in farm.run(both())] == ["PromotionView"] * 4
    found = farm.dispatcher.read(lambda turn: promotions(turn.tx, STUDIO))
    assert [one.label for one in found] == ["two@v001", "one@v001", "two@v001", "one@v001"]
    assert there(farm) == "two@v001"
    assert sum(bool(get(farm, one).aliases) for one in cards) == 1


def test_what_stands_there_already_is_retired_or_has_no_such_alias_is_refused(farm: QueueFarm) -> None:
    hero = card(farm, "hero")
    up(farm, hero, override="x")
    with pytest.raises(StateError, match="is hero@v001 already"):
        up(farm, hero, override="x")
    with pytest.raises(StateError, match="hero@v001 is roto@production"):
        farm.run(farm.dispatcher.write(lambda turn: retire(turn, get(farm, hero))))
    back(farm)
    farm.run(farm.dispatcher.write(lambda turn: retire(turn, get_card(turn.tx, STUDIO, hero.id))))
    with pytest.raises(StateError, match="is retired"):
        up(farm, hero, override="x")
    fresh = card(farm, "fresh")
    for alias in ("", "a b", "a@b", "../x"):
        with pytest.raises(ShotNameError):
            up(farm, fresh, alias=alias, override="x")


def test_a_studios_promotions_are_its_own(farm: QueueFarm) -> None:
    up(farm, card(farm, "theirs", studio="guest"), override="x")
    assert there(farm) is None and there(farm, "guest") == "theirs@v001"
    with pytest.raises(NotFoundError, match="nothing was promoted"):
        back(farm)
    assert there(farm, "guest") == "theirs@v001"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from("abc"), st.just("back"), st.sampled_from(["-a", "-b", "+a", "+b"])), max_size=14)
)
def test_promotions_and_rollbacks_are_a_stack(moves: list[str]) -> None:
    with open_farm() as farm:
        cards = {name: card(farm, name) for name in "abc"}
        stack: list[str | None] = [None]
        retired: set[str] = set()
        for move in moves:
            refused = False
            try:
                if move == "back":
                    back(farm)
                elif move[0] in "-+":
                    undo = move[0] == "+"
                    of = cards[move[1]].id
                    farm.run(
                        farm.dispatcher.write(
                            lambda turn, of=of, undo=undo: retire(turn, get_card(turn.tx, STUDIO, of), undo=undo)  # type: ignore[misc]
                        )
                    )
                else:
                    up(farm, cards[move], override="x")
            except PipelineError:
                refused = True
            if move == "back":
                may = len(stack) > 1 and stack[-2] not in retired
                stack = stack[:-1] if may else stack
            elif move[0] == "-":
                may = stack[-1] != move[1] and move[1] not in retired
                retired |= {move[1]} if may else set()
            elif move[0] == "+":
                may = move[1] in retired
                retired -= {move[1]}
            else:
                may = move not in retired and stack[-1] != move
                stack = [*stack, move] if may else stack
            assert refused is not may, move
            assert there(farm) == (None if stack[-1] is None else f"{stack[-1]}@v001")

"""What was spent: every attempt counts, at the price that held when it began, in the studio that it belongs to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import update

from farm.api.usage import moment
from farm.cli.amounts import duration, estimate_line, money, spent_line
from farm.cli.usage import _WAYS
from farm.outcome import outcome
from farm.records import Cost, JobDetail
from farm.states import FailureKind
from farm.store import SqlStore
from farm.tables import JOB
from farm.tokens import Scope
from farm.turn import Turn
from farm.usage import SPOILT, WAYS, By, UsageBook, UsageTable, asking, spent, usage
from integrations._shared.client import DispatcherError
from pipeline.errors import SubmissionRefused
from pipeline.policy import Spend
from tests.queue_kit import STUDIO, QueueFarm, database_url, open_farm
from tests.unit.farm.served import Served, served

KINDS = ["file", "memory", pytest.param("postgres", marks=pytest.mark.postgres)]
HOUR = {"gpus": "2", "hour_price": "36"}
"""Tags of a worker that costs a hundredth a second."""
PUBLISHED = {"version": {"name": "n", "path": "/p", "frames": "1001-1004", "layers": ["matte"], "colorspace": "c"}}


@pytest.fixture(params=KINDS)
def any_farm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QueueFarm]:
    with database_url(request.param, tmp_path) as url:
        farm = QueueFarm(SqlStore.open(url), machine_hour=3.6, currency="EUR")
        yield farm
        farm.close()


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm(machine_hour=3.6, currency="EUR") as farm:
        yield farm


def looked(farm: QueueFarm, by: By, **more: Any) -> UsageTable:
    studio = more.pop("studio", STUDIO)
    return farm.dispatcher.read(lambda turn: usage(turn.tx, studio, by=by, now=turn.now, **more))


def work(farm: QueueFarm, seconds: float, worker: str = "w1", **hello: Any) -> None:
    """One chunk, done in so many seconds."""
    held = farm.take(worker, **hello)
    farm.clock.now += seconds
    assert farm.done(
        held, worker, studio=hello.get("studio", STUDIO), result=PUBLISHED if held.step == "publish" else {}
    )


def test_machine_gpu_and_money_of_a_job_are_its_attempts_seconds(any_farm: QueueFarm) -> None:
    farm = any_farm
    job = farm.submit("1001-1004", size=4)
    work(farm, 10.5)
    work(farm, 4, "gpu", tags=HOUR)
    (row,) = looked(farm, "job", currency="EUR").rows
    assert (row.key, row.name, row.jobs, row.frames) == (str(job.id), "show/sq01/sh010 roto", 1, 4)
    assert (row.machine_s, row.gpu_s, row.lost_s) == (14.5, 8.0, 0.0)
    assert row.money == pytest.approx(10.5 * 0.001 + 4 * 0.01)
    detail = farm.job(job.id)
    assert detail.cost == Cost(14.5, 8.0, row.money, 0.0, "EUR"), "the job itself says the same"
    assert outcome(detail)["cost"]["machine_s"] == 14.5


def test_work_that_came_to_nothing_costs_too_and_is_told_apart(any_farm: QueueFarm) -> None:
    farm = any_farm
    job = farm.submit("1001-1004", size=4).id
    held = farm.take()
    farm.clock.now += 7
    assert farm.fail(held)
    farm.pass_time(100)  # its back-off costs nothing
    farm.take("w2")
    taken = farm.clock.now
    assert farm.pass_time(farm.settings.lease_s + farm.settings.lease_s / 4) == 1
    lost_s = (farm.job(job).chunks[0].attempts[1].ended_at or 0) - taken
    assert lost_s >= farm.settings.lease_s
    farm.take("w3")
    farm.clock.now += 2
    farm.run(farm.dispatcher.pause(STUDIO, job))
    row = looked(farm, "job").total
    assert (row.machine_s, row.lost_s) == (7 + lost_s + 2, 7 + lost_s + 2)
    farm.run(farm.dispatcher.resume(STUDIO, job))
    work(farm, 20, "w4")
    after = looked(farm, "job").total
    assert (after.machine_s, after.lost_s) == (row.lost_s + 20, row.lost_s)
    assert farm.job(job).cost.lost_s == row.lost_s


def test_a_running_attempt_counts_until_now(any_farm: QueueFarm) -> None:
    any_farm.submit("1001-1004", size=4)
    any_farm.take()
    any_farm.clock.now += 3.25
    assert looked(any_farm, "show").total.machine_s == 3.25
    any_farm.clock.now += 1
    assert looked(any_farm, "worker").rows[0].machine_s == 4.25


def test_a_price_that_changes_does_not_change_what_was(farm: QueueFarm) -> None:
    farm.submit("1001-1008", size=4)
    work(farm, 10, tags={"hour_price": "36"})
    assert looked(farm, "show").total.money == pytest.approx(0.1)
    work(farm, 10, tags={"hour_price": "72"})
    assert looked(farm, "show").total.money == pytest.approx(0.3)


def test_tags_that_mean_nothing_never_stop_a_claim(farm: QueueFarm) -> None:
    farm.submit("1001-1004", size=4)
    work(farm, 10, tags={"gpus": "many", "hour_price": "cheap"})
    total = looked(farm, "show").total
    assert (total.gpu_s, total.money) == (0.0, pytest.approx(0.01))


def test_every_way_of_adding_up_has_the_same_total_and_its_own_rows(any_farm: QueueFarm) -> None:
    farm = any_farm
    farm.submit("1001-1004", size=4, model="net@a", user="ann", use="final")
    farm.submit("1001-1008", size=4, model="net@b", user="bob", shot="sh020")
    work(farm, 1)
    work(farm, 2, "w2")
    work(farm, 4, "w2")
    work(farm, 8)
    work(farm, 16)
    tables = {by: looked(farm, by) for by in WAYS}
    for by, table in tables.items():
        assert (table.by, table.total.machine_s, table.total.jobs) == (by, 31.0, 2)
        assert sum(row.machine_s for row in table.rows) == 31.0
        assert table.total.money == pytest.approx(0.031)
    rows = {by: {row.key: (row.machine_s, row.jobs) for row in table.rows} for by, table in tables.items()}
    first = (looked(farm, "job", show="show").rows[-1]).machine_s
    assert set(rows["job"]) == {"1", "2"}
    assert rows["shot"] == {"show/sq01/sh010": (first, 1), "show/sq01/sh020": (31 - first, 1)}
    assert rows["user"] == {"ann": (first, 1), "bob": (31 - first, 1)}
    assert rows["use"] == {"final": (first, 1), "": (31 - first, 1)}
    assert rows["model"] == {"net@a": (first, 1), "net@b": (31 - first, 1)}
    assert rows["show"] == {"show": (31.0, 2)} and rows["task"] == {"roto": (31.0, 2)}
    assert rows["worker"]["w2"][0] == 6.0 and rows["worker"]["w1"][0] == 25.0
    assert tables["worker"].rows[0].frames is None
    assert all(tables[by].total.frames == 8 for by in WAYS if by != "worker"), "two versions of four frames"


def brute(
    details: list[JobDetail], rates: dict[str, float], by: By, now: float
) -> dict[str, tuple[float, float, float, int]]:
    """The same sums, one attempt after the other."""
    sums: dict[str, tuple[float, float, float, set[int]]] = {}
    for detail in details:
        for chunk in detail.chunks:
            for tried in chunk.attempts:
                key = (
                    tried.worker
                    if by == "worker"
                    else {"job": str(detail.job.id), "shot": f"show/sq01/{detail.job.shot}"}[by]
                )
                seconds = (tried.ended_at or now) - tried.started_at
                machine, cost, lost, jobs = sums.get(key, (0.0, 0.0, 0.0, set()))
                spoilt = seconds if tried.state in SPOILT else 0.0
                sums[key] = (
                    machine + seconds,
                    cost + seconds * rates[tried.worker],
                    lost + spoilt,
                    jobs | {detail.job.id},
                )
    return {key: (round(m, 3), round(c, 6), round(lost, 3), len(jobs)) for key, (m, c, lost, jobs) in sums.items()}


@pytest.mark.parametrize("seed", range(5))
def test_the_database_adds_up_as_one_attempt_after_the_other(seed: int) -> None:
    chance = random.Random(seed)
    rates = {f"w{n}": n / 100 for n in range(4)}
    with open_farm(max_attempts=9, retry_backoff_s=0.1) as farm:
        jobs = [farm.submit("1001-1012", size=3, shot=f"sh{n % 3}").id for n in range(6)]
        for _ in range(60):
            worker = chance.choice(list(rates))
            held = farm.claim(worker, tags={"hour_price": str(rates[worker] * 3600)})
            farm.clock.now += chance.uniform(0.1, 9)
            if held is None:
                continue
            if chance.random() < 0.3:
                farm.fail(held, worker, chance.choice([FailureKind.ERROR, FailureKind.STORAGE]))
            elif chance.random() < 0.9:
                farm.done(held, worker)
        details = [farm.job(job) for job in jobs]
        for by in ("job", "shot", "worker"):
            expected = brute(details, rates, by, farm.clock.now)  # type: ignore[arg-type]
            found = {r.key: (r.machine_s, r.money, r.lost_s, r.jobs) for r in looked(farm, by).rows}  # type: ignore[arg-type]
            assert found.keys() == expected.keys()
            for key, amounts in expected.items():
                assert found[key] == pytest.approx(amounts, abs=2e-3), (by, key)


def test_days_are_utcs_and_midnight_belongs_to_the_new_one(any_farm: QueueFarm) -> None:
    farm = any_farm
    midnight = 1_700_006_400.0  # 2023-11-15, UTC
    farm.submit("1001-1012", size=4)
    for start in (midnight - 1, midnight, midnight + 86_399):
        farm.clock.now = start
        work(farm, 0.5)
    assert [(row.key, row.machine_s, row.jobs) for row in looked(farm, "day").rows] == [
        ("2023-11-14", 0.5, 1), ("2023-11-15", 1.0, 1),
    ]  # fmt: skip
    assert looked(farm, "day").total.jobs == 1
    within = looked(farm, "day", since=midnight, until=midnight + 86_399)
    assert within.total.machine_s == 0.5, "from the first moment, until before the second"


@pytest.mark.parametrize("seed", range(4))
def test_a_book_of_days_says_what_the_database_says_today_and_later(seed: int) -> None:
    chance = random.Random(seed)
    book = UsageBook()
    with open_farm(max_attempts=9, lease_s=1e7, machine_hour=3.6) as farm:
        for n in range(8):
            farm.submit("1001-1012", size=3, shot=f"sh{n % 3}")
        for _ in range(40):
            farm.clock.now += chance.choice([60, 3_000, 20_000, 90_000])
            worker = chance.choice(["w1", "w2"])
            held = farm.claim(worker)
            if held is not None and chance.random() < 0.8:
                farm.clock.now += chance.uniform(1, 40_000)  # over midnight now and then
                farm.done(held, worker, result=PUBLISHED if held.step == "publish" else {})
            by, show = chance.choice(WAYS), chance.choice([None, "show", "other"])
            since = chance.choice([None, farm.clock.now - chance.uniform(0, 900_000)])
            until = chance.choice([None, farm.clock.now - chance.uniform(0, 300_000)])
            asked: dict[str, Any] = {"show": show, "since": since, "until": until}
            with_book, without = looked(farm, by, book=book, **asked), looked(farm, by, **asked)
            assert [(r.key, r.jobs, r.frames) for r in with_book.rows] == [
                (r.key, r.jobs, r.frames) for r in without.rows
            ]
            for ours, plain in zip((*with_book.rows, with_book.total), (*without.rows, without.total), strict=True):
                mine = ours.machine_s, ours.gpu_s, ours.money, ours.lost_s
                assert mine == pytest.approx((plain.machine_s, plain.gpu_s, plain.money, plain.lost_s), abs=2e-3)


def test_a_day_that_is_over_is_asked_for_once(farm: QueueFarm) -> None:
    farm.clock.now = 1_700_006_400.0
    farm.submit("1001-1012", size=4)
    held = farm.take()
    farm.clock.now += 3 * 86_400
    book = UsageBook()
    while_running = looked(farm, "show", book=book, since=1_700_006_400.0).total.machine_s
    farm.clock.now += 5
    assert looked(farm, "show", book=book).total.machine_s == while_running + 5, "it still runs: nothing is settled"
    assert farm.done(held)
    farm.clock.now += 60
    assert looked(farm, "show", book=book).total.machine_s == while_running + 5
    asked: list[str] = []

    def listening(turn: Any) -> UsageTable:
        tx = turn.tx
        rows = tx.rows

        class Heard:
            def rows(self, statement: Any) -> Any:
                asked.append(str(statement))
                return rows(statement)

            def first(self, statement: Any) -> Any:
                return tx.first(statement)

        return usage(Heard(), STUDIO, by="show", now=turn.now, book=book)  # type: ignore[arg-type]

    farm.dispatcher.read(listening)
    assert len(asked) == 2, "the sums and the versions of today"


@pytest.mark.parametrize("since", [None, 0.0, 86_400.0], ids=["always", "1970", "the day after"])
def test_a_farm_without_history_asks_for_no_day_of_the_past(farm: QueueFarm, since: float | None) -> None:
    asked: list[str] = []

    def look(turn: Turn) -> None:
        book = UsageBook()
        tx = turn.tx
        rows = tx.rows
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(tx), "rows", lambda self, *a, **k: asked.append("") or rows(*a, **k))
            spent(tx, STUDIO, "show", since=since, now=turn.now, book=book)

    farm.dispatcher.read(look)
    before = len(asked)
    assert before < 10, "one question, not one for every day since 1970"
    farm.submit("1001")
    farm.take()
    farm.clock.now += 3 * 86_400
    asked.clear()
    farm.dispatcher.read(look)
    assert len(asked) < before + 20, "four days, not all since 1970"


def test_the_dearest_come_first_and_the_total_knows_what_was_left_out(farm: QueueFarm) -> None:
    for shot, seconds in (("a", 3), ("b", 9), ("c", 6)):
        farm.submit("1001-1004", size=4, shot=shot)
        work(farm, seconds)
        work(farm, 0)
    table = looked(farm, "shot", limit=2)
    assert [row.key for row in table.rows] == ["show/sq01/b", "show/sq01/c"]
    assert (table.more, table.total.machine_s) == (1, 18.0)


def test_a_show_and_a_studio_see_only_their_own(any_farm: QueueFarm) -> None:
    farm = any_farm
    farm.submit("1001-1004", size=4)
    farm.submit("1001-1004", size=4, studio="guest")
    work(farm, 2)
    work(farm, 5, "theirs", studio="guest")
    assert [(row.key, row.machine_s) for row in looked(farm, "worker").rows] == [("w1", 2.0)]
    assert looked(farm, "job", studio="guest").total.machine_s == 5.0
    assert looked(farm, "day", studio="nobody").rows == ()
    for by in WAYS:
        assert looked(farm, by, show="other").total.machine_s == 0.0
        assert looked(farm, by, show="show").total.machine_s == 2.0
    usage_of_show = farm.dispatcher.read(lambda turn: spent(turn.tx, "guest", "show", since=None, now=turn.now))
    assert usage_of_show.machine_hours == Spend(spent=5 / 3600, committed=0.0)


def say_estimate(farm: QueueFarm, job: int, text: str) -> None:
    farm.store.submit(lambda tx: tx.execute(update(JOB).where(JOB.c.id == job).values(estimate=text))).result()


def test_a_budget_counts_what_was_spent_since_then_and_what_is_promised(any_farm: QueueFarm) -> None:
    farm = any_farm
    old = farm.submit("1001-1004", size=4)
    work(farm, 100)
    work(farm, 100)
    assert farm.job(old.id).job.state == "succeeded"
    say_estimate(farm, old.id, '{"machine_s": 900, "gpu_s": 0, "money": 9}')
    since = farm.clock.now
    running = farm.submit("1001-1008", size=4)
    farm.submit("1001-1004", size=4, shot="unknown")
    paused = farm.submit("1001-1004", size=4, shot="paused")
    farm.run(farm.dispatcher.pause(STUDIO, paused.id))
    say_estimate(farm, running.id, '{"machine_s": 50, "gpu_s": 36, "money": 0.5}')
    say_estimate(farm, paused.id, '{"machine_s": 30, "gpu_s": 0, "money": 0.25}')
    work(farm, 20, tags=HOUR)
    found = farm.dispatcher.read(lambda turn: spent(turn.tx, STUDIO, "show", since=since, now=turn.now, currency="EUR"))
    assert found.currency == "EUR"
    assert found.machine_hours.spent == pytest.approx(20 / 3600)
    assert found.machine_hours.committed == pytest.approx((30 + 30) / 3600)
    assert found.money.spent == pytest.approx(0.2)
    assert found.money.committed == pytest.approx(0.3 + 0.25)
    assert found.gpu_hours.spent == pytest.approx(40 / 3600)
    assert found.gpu_hours.committed == 0.0, "it has taken more than was said: nothing is given back"
    ever = farm.dispatcher.read(lambda turn: spent(turn.tx, STUDIO, None, since=None, now=turn.now))
    assert ever.machine_hours.spent == pytest.approx(220 / 3600)
    more = asking(found, {"machine_s": 7.2, "gpu_s": 3.6, "money": 0.1})
    assert (more.machine_hours.asked, more.gpu_hours.asked, more.money.asked) == (0.002, 0.001, 0.1)
    assert asking(found, None) == found and found.money.asked is None


# Over HTTP


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house"), currency="EUR") as house:
        yield house


def test_who_may_review_sees_the_usage_and_nobody_else(house: Served) -> None:
    reviewer = house.client(house.token("local", "rev", Scope.REVIEW))
    found = reviewer.get("/v1/usage", by="task", since="2w")
    assert (found["by"], found["currency"], found["rows"], found["until"]) == ("task", "EUR", [], None)
    assert reviewer.get("/v1/usage/estimates") == []
    for path in ("/v1/usage", "/v1/usage/estimates"):
        with pytest.raises(DispatcherError) as refused:
            house.client(house.token("local", "work", Scope.WORKER)).get(path)
        assert refused.value.status == 403


@pytest.mark.parametrize("query", [{"by": "price"}, {"since": "yesterday"}, {"until": "2026-13-01"}, {"limit": 0}])
def test_a_question_that_cannot_be_meant_is_refused_in_words(house: Served, query: dict[str, Any]) -> None:
    with pytest.raises(DispatcherError) as refused:
        house.client().get("/v1/usage", **query)
    assert refused.value.status == 422
    assert next(iter(query)) in refused.value.message


def test_a_worker_whose_price_cannot_be_read_gets_no_work_but_is_heard_out(house: Served) -> None:
    client = house.client()
    hello = {"host": "h", "version": "1", "memory_mb": 10, "tags": ["fast", "gpus=lots"]}
    for verb, body in (("arrive", hello), ("claim", {"hello": hello})):
        with pytest.raises(DispatcherError) as refused:
            client.post(f"/v1/workers/odd/{verb}", body)
        assert refused.value.status == 422 and "gpus=lots" in refused.value.message
    with pytest.raises(DispatcherError) as unknown:
        client.post("/v1/workers/odd/complete", {"chunk_id": 99, "attempt": 1, "hello": hello})
    assert unknown.value.status == 404, "the report is looked at, whatever its tags"
    client.post("/v1/workers/good/arrive", {**hello, "tags": ["gpus=1", "hour_price=2"]})
    client.post("/v1/workers/good/claim", {"hello": {**hello, "tags": ["gpus=1", "hour_price=2"]}})
    tags = {worker["name"]: worker["tags"] for worker in client.get("/v1/workers")}
    assert tags["good"] == {"gpus": "1", "hour_price": "2"}


def test_a_moment_is_said_in_many_ways() -> None:
    now = 1_700_000_000.0
    assert moment("all", now, "since") is None and moment(" ", now, "since") is None
    assert moment("30d", now, "since") == now - 30 * 86_400
    assert moment("2w", now, "since") == now - 14 * 86_400 and moment("12h", now, "since") == now - 43_200
    assert moment("1699999999.5", now, "since") == 1_699_999_999.5
    assert moment("2023-11-15", now, "since") == moment("2023-11-15T01:00+01:00", now, "since") == 1_700_006_400.0
    for said in ("nan", "inf", "30x", "-d", "2023-02-30"):
        with pytest.raises(SubmissionRefused, match="no time"):
            moment(said, now, "since")


# In words


def test_the_command_offers_every_way() -> None:
    assert set(get_args(By)) == set(_WAYS)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (4.24, "4.2 s"), (9.96, "10 s"), (59.6, "1 min 00 s"),
     (130, "2 min 10 s"), (3599.6, "1 h 00 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_a_duration_reads_as_people_say_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_money_keeps_the_digits_that_it_has() -> None:
    assert [money(amount, "EUR") for amount in (0, 0.354, 0.0035, 1234.5)] == [
        "0.00 EUR",
        "0.35 EUR",
        "0.0035 EUR",
        "1234.50 EUR",
    ]
    assert money(2, "") == "2.00"


def test_an_estimate_and_what_became_of_it_are_one_line_each() -> None:
    said = {"machine_s": 130.0, "gpu_s": 0.0, "money": 0.35, "currency": "EUR", "low": 115.0, "high": 151.0, "jobs": 12}
    said |= {"alike": "size", "upper": False}
    assert (
        estimate_line(said)
        == "about 2 min 10 s of machine time (1 min 55 s to 2 min 31 s, from 12 jobs like it), 0.35 EUR"
    )
    one = {**said, "jobs": 1, "gpu_s": 60.0, "alike": "task", "upper": True, "money": 0.0}
    assert estimate_line(one) == (
        "about 2 min 10 s of machine time (from 1 job of other models), 1 min 00 s of GPU; less where earlier work can be taken over"
    )
    assert "nobody knows" in estimate_line(None)
    cost = {"machine_s": 144.0, "gpu_s": 0.0, "money": 0.39, "lost_s": 0.0, "currency": "EUR"}
    assert spent_line(cost, {"error": 0.111}) == "took 2 min 24 s of machine time, 0.39 EUR, 11 % more than estimated"
    assert spent_line({**cost, "lost_s": 5.0}, {"error": -0.2}).endswith(
        "20 % less than estimated; 5.0 s came to nothing"
    )
    assert spent_line(cost, {"error": 0.001}).endswith("as estimated") and spent_line(cost).endswith("0.39 EUR")

"""Workers and the queue: claims, fences, leases, failures, and what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from farm.dispatcher import Dispatcher
from farm.records import Stop, WorkerHello, WorkFacts
from farm.states import FailureKind
from pipeline.errors import NotFoundError, StateError, StorageError
from pipeline.frames import FrameRangeError
from pipeline.jobs.plan import StepName
from tests.queue_kit import STUDIO, QueueFarm, job_spec, job_steps, open_farm


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm(lease_s=30.0, no_progress_s=600.0, max_attempts=3, retry_backoff_s=2.0) as opened:
        yield opened


# Submit


def test_a_job_waits_with_its_version_reserved(farm: QueueFarm) -> None:
    job = farm.submit(fits=True, taken=(1, 4))
    assert (job.state, job.progress, job.name) == ("waiting", 0.0, "show/sq01/sh010 roto")
    assert [(step.name, step.total, step.after) for step in job.steps] == [
        ("fit", 1, ()),
        ("infer", 3, ("fit",)),
        ("publish", 1, ("infer",)),
    ]
    (version,) = job.versions
    assert (version.number, version.state) == (5, "reserved")
    assert version.name == "show_sq01_sh010_roto_v005"
    assert version.folder == "/publish/show/sq01/sh010/roto/v005"


def test_the_same_key_with_the_same_request_is_the_same_job(farm: QueueFarm) -> None:
    first = farm.submit(key="k")
    assert farm.submit(key="k").id == first.id
    assert farm.submit(key="other").id != first.id
    assert farm.submit(studio="elsewhere", key="k").id != first.id
    assert len(farm.dispatcher.jobs(STUDIO)) == 2


def test_a_key_keeps_standing_for_its_request_when_another_seed_is_drawn(farm: QueueFarm) -> None:
    spec = job_spec()
    redrawn = spec.model_copy(update={"takes": tuple(t.model_copy(update={"seed": 99}) for t in spec.takes)})
    submissions = [
        farm.run(farm.dispatcher.submit(one, job_steps(), work=WorkFacts("roto", 1), key="k"))
        for one in (spec, redrawn)
    ]
    assert [submitted.created for submitted in submissions] == [True, False]


def test_the_same_key_with_another_request_is_refused(farm: QueueFarm) -> None:
    first = farm.submit(key="k")
    with pytest.raises(StateError, match=f"already stands for job {first.id}"):
        farm.submit("1001-1002", key="k")
    assert len(farm.dispatcher.jobs(STUDIO)) == 1


def test_every_take_has_a_version_of_its_own(farm: QueueFarm) -> None:
    first, second = farm.submit(takes=2), farm.submit()
    assert [v.number for v in (*first.versions, *second.versions)] == [1, 2, 3]


# Claim


def test_steps_start_when_those_before_them_are_done(farm: QueueFarm) -> None:
    job = farm.submit(fits=True)
    fit = farm.take("w1")
    assert (fit.step, fit.frames, fit.inputs) == ("fit", "1001-1010", ())
    assert farm.claim("w2") is None
    assert farm.done(fit, "w1")
    chunks = [farm.take(f"w{i}") for i in range(3)]
    assert [(c.step, c.index, c.frames, c.context) for c in chunks] == [
        ("infer", 0, "1001-1004", "1005"),
        ("infer", 1, "1005-1008", "1004,1009"),
        ("infer", 2, "1009-1010", "1008"),
    ]
    assert [(i.step, i.folder) for i in chunks[0].inputs] == [
        ("fit", f"/publish/.platewright/work/local-job-{job.id}/take0/fit-0/a1")
    ]
    for i, chunk in enumerate(chunks):
        assert farm.claim("idle") is None
        assert farm.done(chunk, f"w{i}")
    publish = farm.take("w1")
    assert [(i.step, i.index, i.frames) for i in publish.inputs] == [
        ("fit", 0, "1001-1010"),
        ("infer", 0, "1001-1004"),
        ("infer", 1, "1005-1008"),
        ("infer", 2, "1009-1010"),
    ]


def test_an_assignment_says_all_that_the_work_needs(farm: QueueFarm) -> None:
    job = farm.submit(memory_mb=700, model="roto:net")
    got = farm.take()
    assert got.spec_json == farm.dispatcher.spec(STUDIO, job.id).model_dump_json()
    assert got.folder == f"/publish/.platewright/work/local-job-{job.id}/take0/infer-0/a1"
    assert (got.version.name, got.version.number, got.version.product) == ("show_sq01_sh010_roto_v001", 1, "roto")
    assert (got.lease_s, got.no_progress_s, got.memory_mb, got.model) == (30.0, 600.0, 700, "roto:net")


def test_the_highest_priority_goes_first_then_the_oldest(farm: QueueFarm) -> None:
    low, first, second = farm.submit(priority=10), farm.submit(priority=60), farm.submit(priority=60)
    for _ in range(6):
        farm.submit(priority=20)
    assert [farm.take(f"w{i}").job_id for i in range(7)] == [first.id] * 3 + [second.id] * 3 + [low.id + 3]


def test_a_loaded_model_is_preferred_but_never_over_priority(farm: QueueFarm) -> None:
    cold, warm = farm.submit(model="a"), farm.submit(model="b")
    urgent = farm.submit(model="a", priority=90, frames="1001")
    assert farm.take("w1", model="b").job_id == urgent.id
    assert farm.take("w2", model="b").job_id == warm.id
    assert farm.take("w3").job_id == cold.id
    assert farm.take("w4", model="never seen").job_id == cold.id


def test_a_worker_gets_only_what_it_serves_and_has_memory_for(farm: QueueFarm) -> None:
    big = farm.submit(pool="gpu", memory_mb=4000)
    assert farm.claim("w1") is None
    assert farm.claim("w2", pools=("gpu",), memory_mb=3999) is None
    assert farm.take("w3", pools=("default", "gpu"), memory_mb=4000).job_id == big.id


def test_pools_are_served_in_the_workers_order(farm: QueueFarm) -> None:
    farm.submit(pool="b", priority=90)
    mine = farm.submit(pool="a")
    assert farm.take("w1", pools=("a", "b")).job_id == mine.id


def test_a_worker_that_asks_again_never_got_its_first_answer(farm: QueueFarm) -> None:
    farm.submit("1001")
    lost = farm.take("w1")
    again = farm.take("w1")
    assert (again.chunk_id, again.attempt) == (lost.chunk_id, 2)
    assert not farm.done(lost, "w1")
    assert farm.done(again, "w1")
    assert [(a.state, a.kind) for a in farm.job(lost.job_id).chunks[0].attempts] == [
        ("stopped", None),
        ("succeeded", None),
    ]


def test_a_result_and_the_next_chunk_take_one_call(farm: QueueFarm) -> None:
    farm.submit()
    first = farm.take()
    answer = farm.complete(first, claim=WorkerHello("w1", STUDIO))
    assert answer.accepted and answer.next is not None
    assert answer.next.index == first.index + 1


def test_a_refused_result_still_brings_the_next_chunk(farm: QueueFarm) -> None:
    farm.submit()
    stale = farm.take()
    farm.pass_time(31)
    answer = farm.complete(stale, claim=WorkerHello("w1", STUDIO))
    assert not answer.accepted and answer.next is not None


def test_a_waiting_worker_is_woken_by_a_submission(farm: QueueFarm) -> None:
    async def meet() -> tuple[object, object]:
        waiting = asyncio.create_task(farm.dispatcher.claim(WorkerHello("w1", STUDIO), wait_s=20))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        submitted = await farm.dispatcher.submit(job_spec(), job_steps(fits=False), work=WorkFacts("roto", 1))
        got = await asyncio.wait_for(waiting, 5)
        return submitted.job.id, got and got.job_id

    job, claimed = farm.run(meet())
    assert job == claimed


def test_a_worker_that_hangs_up_while_waiting_leaves_nothing_leased(farm: QueueFarm) -> None:
    async def hang_up() -> None:
        for _ in range(20):
            waiting = asyncio.create_task(farm.dispatcher.claim(WorkerHello("w1", STUDIO), wait_s=20))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    job = farm.submit("1001")
    farm.run(hang_up())
    for _ in range(2):  # the last claim is answered in one batch, and undone in the next
        farm.store.submit(lambda tx: None).result(10)
    assert farm.states(job.id) == ["waiting"]
    assert farm.job(job.id).chunks[0].failures == 0


# Fencing, leases, progress


def test_the_same_result_twice_is_accepted_twice_and_counted_once(farm: QueueFarm) -> None:
    job = farm.submit()
    held = farm.take()
    assert farm.done(held) and farm.done(held)
    (step,) = [step for step in farm.job(job.id).job.steps if step.name == "infer"]
    assert step.done == 1


def test_a_zombies_result_is_refused_and_its_folder_never_read(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    zombie = farm.take("w1")
    assert farm.pass_time(31) == 1
    alive = farm.take("w2")
    assert (alive.attempt, alive.folder) == (2, zombie.folder.replace("/a1", "/a2"))
    assert not farm.done(zombie, "w1")
    assert not farm.fail(zombie, "w1")
    assert farm.beat(zombie, "w1").stop is Stop.LOST
    assert farm.done(alive, "w2")
    assert not farm.done(zombie, "w1")
    assert farm.take("w3").inputs[0].folder == alive.folder
    assert farm.job(job.id).chunks[0].accepted_folder == alive.folder


def test_another_workers_report_is_refused_even_with_the_right_attempt(farm: QueueFarm) -> None:
    farm.submit("1001")
    held = farm.take("w1")
    assert not farm.done(held, "w2")
    assert farm.beat(held, "w2").stop is Stop.LOST
    assert farm.done(held, "w1")


def test_heartbeats_keep_a_lease_and_silence_ends_it(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    held = farm.take("w1")
    for _ in range(10):
        assert farm.pass_time(20) == 0
        verdict = farm.beat(held, fraction=0.5)
        assert (verdict.stop, verdict.lease_s) == (None, 30.0)
    assert farm.pass_time(31) == 1
    (chunk, _) = farm.job(job.id).chunks
    assert (chunk.state, chunk.failures, chunk.attempts[0].state, chunk.attempts[0].kind) == (
        "waiting",
        1,
        "lost",
        "lost",
    )


def test_a_worker_that_talks_and_gets_nowhere_loses_its_chunk(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    held = farm.take("w1")
    for _ in range(40):
        farm.pass_time(15)
        assert farm.beat(held, advanced=False).stop is None
    farm.pass_time(15)
    assert farm.beat(held, advanced=False).stop is Stop.LOST
    attempt = farm.job(job.id).chunks[0].attempts[0]
    assert (attempt.state, attempt.kind) == ("failed", "hung")
    assert "no progress for 600 s" in attempt.reason


def test_any_progress_starts_the_deadline_anew(farm: QueueFarm) -> None:
    farm.submit("1001")
    held = farm.take("w1")
    for i in range(100):
        farm.pass_time(15)
        assert farm.beat(held, advanced=i % 30 == 29).stop is None


def test_progress_is_seen_on_the_chunk_and_the_job(farm: QueueFarm) -> None:
    job = farm.submit("1001-1004")
    held = farm.take()
    farm.beat(held, fraction=0.5, done_frames="1001,1002")
    view = farm.job(job.id)
    assert (view.chunks[0].fraction, view.chunks[0].done_frames) == (0.5, "1001-1002")
    assert (view.job.progress, view.job.running, view.job.state) == (0.25, 1, "running")
    with pytest.raises(FrameRangeError):
        farm.beat(held, done_frames="all of them")


def test_a_dispatcher_that_was_away_renews_leases_instead_of_ending_them(farm: QueueFarm) -> None:
    farm.submit("1001")
    held = farm.take("w1")
    farm.clock.now += 3_600
    assert farm.run(farm.dispatcher.reap()) == 0
    assert farm.beat(held).stop is None
    assert farm.done(held)


def test_a_database_that_took_no_heartbeats_for_a_while_costs_nobody_a_lease(farm: QueueFarm) -> None:
    farm.submit("1001")
    held = farm.take("w1")
    farm.store.submit(lambda tx: tx.execute(text("PRAGMA query_only = on"))).result(10)
    for _ in range(100):
        farm.clock.now += 1
        with pytest.raises(StorageError, match="can't be written"):
            farm.beat(held)
        with pytest.raises(StorageError, match="can't be written"):
            farm.run(farm.dispatcher.reap())
    connection = farm.store._connection
    assert connection is not None and connection.connection.driver_connection is not None
    connection.connection.driver_connection.execute("PRAGMA query_only = off")
    assert farm.run(farm.dispatcher.reap()) == 0
    assert farm.beat(held).stop is None
    assert farm.done(held)


def test_a_restarted_dispatcher_lets_the_living_report_and_reaps_the_dead(farm: QueueFarm) -> None:
    job = farm.submit("1001-1008")
    alive, dead = farm.take("alive"), farm.take("dead")
    farm.clock.now += 86_400
    farm.dispatcher = Dispatcher(farm.store, farm.settings, clock=farm.clock)
    assert farm.beat(alive, "alive").stop is None
    assert farm.pass_time(29) == 0
    assert farm.beat(alive, "alive").stop is None
    assert farm.pass_time(2) == 1
    assert farm.done(alive, "alive") and not farm.done(dead, "dead")
    assert farm.states(job.id) == ["succeeded", "waiting"]


def test_a_worker_that_starts_again_gives_back_what_it_held_at_once(farm: QueueFarm) -> None:
    farm.submit("1001")
    held = farm.take("w1")
    farm.run(farm.dispatcher.arrive(WorkerHello("w1", STUDIO)))
    chunk = farm.job(held.job_id).chunks[0]
    assert (chunk.state, chunk.failures, chunk.attempts[0].kind) == ("waiting", 1, "crash")


def test_a_worker_that_leaves_in_good_order_is_not_blamed(farm: QueueFarm) -> None:
    farm.submit("1001")
    held = farm.take("w1")
    farm.run(farm.dispatcher.leave(STUDIO, "w1"))
    chunk = farm.job(held.job_id).chunks[0]
    assert (chunk.state, chunk.failures, chunk.attempts[0].state) == ("waiting", 0, "stopped")
    assert [worker.state for worker in farm.dispatcher.workers(STUDIO)] == ["lost"]


# Failures


def test_a_chunk_is_not_offered_again_to_a_worker_that_failed_it(farm: QueueFarm) -> None:
    farm.submit("1001")
    farm.claim("w2")
    farm.run(farm.dispatcher.leave(STUDIO, "w2"))
    held = farm.take("w1")
    assert farm.claim("w2") is None
    farm.fail(held, "w1")
    farm.pass_time(10)
    assert farm.claim("w1") is None
    assert farm.take("w2").attempt == 3


def test_a_worker_that_failed_another_chunk_can_still_be_the_one_to_wait_for(farm: QueueFarm) -> None:
    other, mine = farm.submit("1001"), farm.submit("1001")
    first, second = farm.take("w2"), farm.take("w1")
    assert (first.job_id, second.job_id) == (other.id, mine.id)
    farm.fail(first, "w2")
    farm.fail(second, "w1")
    farm.pass_time(10)
    assert farm.take("w1").job_id == other.id
    assert farm.take("w2").job_id == mine.id


def test_three_machines_are_asked_before_a_chunk_has_failed(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    for name in ("w1", "w2", "w3"):
        farm.run(farm.dispatcher.arrive(WorkerHello(name, STUDIO)))
    for name in ("w1", "w2", "w3"):
        farm.pass_time(10)
        assert farm.fail(farm.take(name), name, why=f"broke on {name}")
    view = farm.job(job.id)
    assert (view.chunks[0].state, view.chunks[0].failures) == ("failed", 3)
    assert [attempt.worker for attempt in view.chunks[0].attempts] == ["w1", "w2", "w3"]
    assert (view.job.state, view.job.message, view.job.hint) == ("failed", "broke on w3", "look at the log")
    assert view.job.ended_at == farm.clock.now


def test_a_farm_of_one_machine_tries_again_on_it_after_the_back_off(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    for wait_s in (2.0, 4.0):
        assert farm.fail(farm.take("w1"), "w1")
        assert farm.claim("w1") is None
        farm.pass_time(wait_s - 0.1)
        assert farm.claim("w1") is None
        farm.pass_time(0.2)
    assert farm.fail(farm.take("w1"), "w1")
    assert farm.job(job.id).job.state == "failed"


def test_a_blocked_worker_gets_the_chunk_when_the_others_are_gone(farm: QueueFarm) -> None:
    farm.submit("1001")
    farm.run(farm.dispatcher.arrive(WorkerHello("w2", STUDIO)))
    farm.fail(farm.take("w1"), "w1")
    farm.pass_time(10)
    assert farm.claim("w1") is None
    farm.pass_time(farm.settings.alive_s)
    assert farm.take("w1").attempt == 2


def test_a_live_worker_of_another_pool_keeps_nobody_waiting(farm: QueueFarm) -> None:
    farm.submit("1001", memory_mb=500)
    farm.run(farm.dispatcher.arrive(WorkerHello("elsewhere", STUDIO, pools=("other",))))
    farm.run(farm.dispatcher.arrive(WorkerHello("small", STUDIO, memory_mb=499)))
    farm.fail(farm.take("w1"), "w1")
    farm.pass_time(3)
    assert farm.take("w1").attempt == 2


def test_storage_faults_burn_no_attempt_and_say_when_it_is_tried_again(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    for wait_s in (10, 20, 40, 80, 120, 120):
        assert farm.fail(farm.take("w1"), "w1", FailureKind.STORAGE, "the disk /publish is full")
        view = farm.job(job.id)
        assert (view.chunks[0].state, view.chunks[0].failures) == ("waiting", 0)
        assert view.job.message == f"the disk /publish is full; trying again in {wait_s} s"
        assert farm.claim("w1") is None
        farm.pass_time(wait_s)
    held = farm.take("w1")
    assert farm.job(job.id).job.message == ""
    assert farm.done(held, "w1")


def test_refused_input_fails_the_job_at_once_and_stops_the_rest(farm: QueueFarm) -> None:
    job = farm.submit()
    bad, other = farm.take("w1"), farm.take("w2")
    assert farm.fail(bad, "w1", FailureKind.REFUSED, "frame 1001 is truncated")
    view = farm.job(job.id)
    assert (view.job.state, view.job.message) == ("failed", "frame 1001 is truncated")
    assert farm.states(job.id) == ["failed", "depend", "depend"]
    assert farm.claim("w1") is None
    assert farm.beat(other, "w2").stop is Stop.LOST
    farm.run(farm.dispatcher.retry(STUDIO, job.id))
    assert farm.states(job.id) == ["waiting", "waiting", "waiting"]
    assert farm.finish() == 4


def test_one_bad_chunk_does_not_stop_the_others(farm: QueueFarm) -> None:
    job = farm.submit()
    for i in range(3):
        held = farm.take("w1")
        assert held.index == 0
        farm.fail(held, "w1", why=f"try {i}")
        farm.pass_time(10)
    view = farm.job(job.id)
    assert (view.job.state, view.job.message) == ("running", "try 2")
    assert farm.finish() == 2
    view = farm.job(job.id)
    assert farm.states(job.id) == ["failed", "succeeded", "succeeded"]
    assert (view.job.state, view.job.message) == ("failed", "try 2")
    assert farm.states(job.id, "publish") == ["depend"]


def test_a_take_that_fails_does_not_stop_another(farm: QueueFarm) -> None:
    job = farm.submit("1001", takes=2)
    for _ in range(3):
        held = farm.take("w1")
        assert held.take == 0
        farm.fail(held, "w1")
        farm.pass_time(10)
    assert farm.finish() == 2
    view = farm.job(job.id).job
    assert view.state == "failed"
    assert [version.state for version in view.versions] == ["reserved", "published"]


# Ends


def test_a_published_version_keeps_what_its_publish_found(farm: QueueFarm) -> None:
    job = farm.submit("1001-1004")
    assert farm.done(farm.take())
    publish = farm.take()
    assert publish.step == StepName.PUBLISH
    found = {
        "version": {"frames": "1001-1004", "layers": ["rgba", "matte"], "colorspace": "lin_rec709_scene"},
        "report": {"frames": [{"frame": 1001, "confidence": 0.9}]},
    }
    assert farm.done(publish, result=found)
    (version,) = farm.dispatcher.versions(STUDIO)
    assert (version.state, version.frames, version.layers) == ("published", "1001-1004", ("rgba", "matte"))
    assert version.report == found["report"] and version.published_at == farm.clock.now
    assert farm.dispatcher.version(STUDIO, version.id) == version
    view = farm.job(job.id).job
    assert (view.state, view.ended_at, view.progress) == ("succeeded", farm.clock.now, 1.0)
    again = {**found, "report": {"changed": True}}
    assert farm.done(publish, result=again)
    assert farm.dispatcher.version(STUDIO, version.id) == version


# Tenants


def test_another_studio_sees_and_touches_nothing(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    held = farm.take("w1")
    version = job.versions[0].id
    other = "elsewhere"
    dispatcher = farm.dispatcher
    assert dispatcher.jobs(other) == dispatcher.versions(other) == dispatcher.workers(other) == ()
    assert farm.claim("w9", studio=other) is None
    for look in (
        lambda: dispatcher.job(other, job.id),
        lambda: dispatcher.job_view(other, job.id),
        lambda: dispatcher.spec(other, job.id),
        lambda: dispatcher.version(other, version),
        lambda: dispatcher.why_waiting(other, job.id),
    ):
        with pytest.raises(NotFoundError):
            look()
    for act in (
        dispatcher.cancel(other, job.id),
        dispatcher.pause(other, job.id),
        dispatcher.resume(other, job.id),
        dispatcher.retry(other, job.id),
        dispatcher.skip(other, job.id, chunk=held.chunk_id),
        dispatcher.set_priority(other, job.id, 99),
        dispatcher.progress(other, "w1", held.chunk_id, held.attempt),
        dispatcher.complete(other, "w1", held.chunk_id, held.attempt, {}),
    ):
        with pytest.raises(NotFoundError):
            farm.run(act)
    assert farm.states(job.id) == ["running"]
    assert dispatcher.counts(other).jobs == {}


def test_numbers_of_two_studios_do_not_meet(farm: QueueFarm) -> None:
    assert [farm.submit(studio=name).versions[0].number for name in ("a", "b", "a")] == [1, 1, 2]

"""What people do to jobs, and what they are told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from farm.events import Event, EventKind
from farm.records import JobFilter, Stop, VersionFilter, WorkerHello, WorkFacts
from farm.states import FailureKind, JobState, VersionState
from pipeline.errors import NotFoundError, StateError
from pipeline.frames import FrameRange
from tests.queue_kit import STUDIO, QueueFarm, job_spec, job_steps, open_farm


@pytest.fixture
def farm() -> Iterator[QueueFarm]:
    with open_farm() as opened:
        yield opened


def fail_for_good(farm: QueueFarm, worker: str = "w1") -> int:
    held = farm.take(worker)
    for _ in range(farm.settings.max_attempts - 1):
        farm.fail(held, worker)
        farm.pass_time(30)
        held = farm.take(worker)
    farm.fail(held, worker)
    return held.chunk_id


# Pause and cancel


def test_a_paused_job_is_offered_to_nobody_and_its_workers_stop(farm: QueueFarm) -> None:
    job = farm.submit()
    held = farm.take("w1")
    paused = farm.run(farm.dispatcher.pause(STUDIO, job.id))
    assert paused.state == "paused"
    assert farm.beat(held, "w1").stop is Stop.PAUSED
    assert not farm.done(held, "w1")
    assert farm.claim("w2") is None
    assert farm.run(farm.dispatcher.resume(STUDIO, job.id)).state == "running"
    again = farm.take("w1")
    assert (again.chunk_id, again.attempt) == (held.chunk_id, 2)
    chunk = farm.job(job.id).chunks[0]
    assert (chunk.failures, chunk.attempts[0].state) == (0, "stopped")


def test_a_job_paused_before_its_start_waits_again_when_resumed(farm: QueueFarm) -> None:
    job = farm.submit(fits=True)
    farm.run(farm.dispatcher.pause(STUDIO, job.id))
    assert farm.run(farm.dispatcher.resume(STUDIO, job.id)).state == "waiting"
    assert (farm.states(job.id, "fit"), farm.states(job.id)) == (["waiting"], ["depend"] * 3)
    assert farm.finish() == 5


def test_steps_that_come_due_while_paused_start_with_the_resume(farm: QueueFarm) -> None:
    job = farm.submit("1001", fits=True)
    assert farm.done(farm.take())
    farm.run(farm.dispatcher.pause(STUDIO, job.id))
    farm.run(farm.dispatcher.skip(STUDIO, job.id, frames=FrameRange.parse("1001")))
    assert farm.states(job.id, "publish") == ["depend"]
    farm.run(farm.dispatcher.resume(STUDIO, job.id))
    assert farm.states(job.id, "publish") == ["waiting"]


def test_a_cancelled_job_is_final_and_gives_its_number_back(farm: QueueFarm) -> None:
    job = farm.submit()
    held = farm.take()
    cancelled = farm.run(farm.dispatcher.cancel(STUDIO, job.id))
    assert (cancelled.state, cancelled.versions[0].state) == ("cancelled", "released")
    assert farm.beat(held).stop is Stop.CANCELLED
    assert not farm.done(held)
    assert farm.claim() is None
    assert set(farm.states(job.id)) == {"cancelled"}
    assert farm.submit().versions[0].number == 1
    for act in (
        farm.dispatcher.cancel(STUDIO, job.id),
        farm.dispatcher.pause(STUDIO, job.id),
        farm.dispatcher.resume(STUDIO, job.id),
        farm.dispatcher.retry(STUDIO, job.id),
        farm.dispatcher.set_priority(STUDIO, job.id, 1),
    ):
        with pytest.raises(StateError, match="cancelled"):
            farm.run(act)


def test_a_number_is_not_given_again_once_a_publish_has_begun(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    farm.done(farm.take())
    assert farm.take().step == "publish"
    cancelled = farm.run(farm.dispatcher.cancel(STUDIO, job.id))
    assert cancelled.versions[0].state == "withdrawn"
    assert farm.submit().versions[0].number == 2


def test_a_finished_job_can_not_be_cancelled(farm: QueueFarm) -> None:
    job = farm.submit()
    farm.finish()
    with pytest.raises(StateError, match="succeeded"):
        farm.run(farm.dispatcher.cancel(STUDIO, job.id))
    assert farm.job(job.id).job.versions[0].state == "published"


# Retry and skip


def test_a_retry_starts_what_failed_anew_on_any_machine(farm: QueueFarm) -> None:
    job = farm.submit()
    chunk = fail_for_good(farm)
    farm.finish()
    assert farm.job(job.id).job.state == "failed"
    again = farm.run(farm.dispatcher.retry(STUDIO, job.id))
    assert (again.state, again.message, again.ended_at) == ("running", "", None)
    held = farm.take("w1")
    assert (held.chunk_id, held.attempt) == (chunk, 4)
    assert farm.done(held)
    assert farm.finish() == 1
    assert farm.job(job.id).job.state == "succeeded"


def test_a_retry_lets_a_backing_off_chunk_go_at_once(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    farm.fail(farm.take(), kind=FailureKind.STORAGE, why="disk full")
    assert farm.claim() is None
    farm.run(farm.dispatcher.retry(STUDIO, job.id))
    assert farm.claim() is not None


def test_a_healthy_job_has_nothing_to_retry(farm: QueueFarm) -> None:
    job = farm.submit()
    with pytest.raises(StateError, match="nothing of job"):
        farm.run(farm.dispatcher.retry(STUDIO, job.id))


def test_frames_that_are_done_again_undo_the_publish_that_waited_on_them(farm: QueueFarm) -> None:
    job = farm.submit("1001-1008")
    farm.done(farm.take())
    farm.done(farm.take())
    publish = farm.take("publisher")
    assert publish.step == "publish"
    farm.run(farm.dispatcher.retry(STUDIO, job.id, frames=FrameRange.parse("1006")))
    assert farm.states(job.id) == ["succeeded", "waiting"]
    assert farm.states(job.id, "publish") == ["depend"]
    assert not farm.done(publish, "publisher")
    assert farm.done(farm.take())
    redone = farm.take()
    assert redone.step == "publish"
    assert [i.folder.rsplit("/", 1)[1] for i in redone.inputs] == ["a1", "a2"]
    assert farm.done(redone)
    assert farm.job(job.id).job.state == "succeeded"


def test_a_fit_that_is_done_again_undoes_everything_after_it(farm: QueueFarm) -> None:
    job = farm.submit("1001-1008", fits=True, takes=2)
    assert farm.finish("w1") == 8
    assert farm.job(job.id).job.state == "succeeded"
    job = farm.submit("1001-1008", fits=True)
    fit = farm.take()
    farm.done(fit)
    farm.done(farm.take())
    running = farm.take("w2")
    farm.run(farm.dispatcher.retry(STUDIO, job.id, chunk=fit.chunk_id))
    assert (farm.states(job.id, "fit"), farm.states(job.id)) == (["waiting"], ["depend", "depend"])
    assert not farm.done(running, "w2")
    assert farm.finish() == 4


def test_a_running_chunk_can_be_taken_back_from_a_stuck_worker(farm: QueueFarm) -> None:
    job = farm.submit("1001")
    stuck = farm.take("w1")
    farm.run(farm.dispatcher.retry(STUDIO, job.id, chunk=stuck.chunk_id))
    assert farm.beat(stuck, "w1").stop is Stop.LOST
    again = farm.take("w2")
    assert not farm.done(stuck, "w1")
    assert farm.done(again, "w2")


def test_skipped_frames_let_the_rest_be_published(farm: QueueFarm) -> None:
    job = farm.submit()
    fail_for_good(farm)
    farm.finish()
    view = farm.run(farm.dispatcher.skip(STUDIO, job.id, frames=FrameRange.parse("1002")))
    assert view.state == "running"
    publish = farm.take()
    assert [i.index for i in publish.inputs] == [1, 2]
    assert farm.done(publish)
    assert farm.states(job.id) == ["skipped", "succeeded", "succeeded"]
    assert farm.job(job.id).job.state == "succeeded"


def test_a_skipped_running_chunk_tells_its_worker_to_stop(farm: QueueFarm) -> None:
    job = farm.submit()
    held = farm.take()
    farm.run(farm.dispatcher.skip(STUDIO, job.id, chunk=held.chunk_id))
    assert farm.beat(held).stop is Stop.CANCELLED


def test_what_there_is_no_result_without_can_not_be_skipped(farm: QueueFarm) -> None:
    job = farm.submit(fits=True)
    fit = farm.take()
    with pytest.raises(StateError, match="the fit of job"):
        farm.run(farm.dispatcher.skip(STUDIO, job.id, chunk=fit.chunk_id))
    farm.done(fit)
    held = farm.take()
    farm.done(held)
    with pytest.raises(StateError, match="are done already"):
        farm.run(farm.dispatcher.skip(STUDIO, job.id, chunk=held.chunk_id))
    with pytest.raises(NotFoundError, match="no chunk 999"):
        farm.run(farm.dispatcher.skip(STUDIO, job.id, chunk=999))
    with pytest.raises(NotFoundError, match="no chunk"):
        farm.run(farm.dispatcher.skip(STUDIO, job.id, frames=FrameRange.parse("5000")))


def test_an_act_on_one_jobs_chunk_can_not_name_anothers(farm: QueueFarm) -> None:
    job, _ = farm.submit("1001"), farm.submit("1001")
    foreign = [chunk.id for chunk in farm.job(job.id + 1).chunks]
    with pytest.raises(NotFoundError):
        farm.run(farm.dispatcher.retry(STUDIO, job.id, chunk=foreign[0]))


# Priority


def test_a_raised_priority_overtakes(farm: QueueFarm) -> None:
    first, second = farm.submit(), farm.submit()
    assert farm.run(farm.dispatcher.set_priority(STUDIO, second.id, 80)).priority == 80
    assert farm.take().job_id == second.id
    last = farm.job(first.id).chunks[2].id
    farm.run(farm.dispatcher.set_priority(STUDIO, first.id, 90, chunk=last))
    assert farm.take("w2").chunk_id == last
    assert farm.job(first.id).job.priority == 50
    with pytest.raises(StateError, match="outside 0 to 100"):
        farm.run(farm.dispatcher.set_priority(STUDIO, first.id, 101))


# Looking


def test_jobs_are_listed_newest_first_in_pages_and_by_what_is_asked(farm: QueueFarm) -> None:
    numbers = [farm.submit(shot=f"sh{i % 2}", user="ann" if i < 2 else "bob").id for i in range(5)]
    farm.run(farm.dispatcher.pause(STUDIO, numbers[4]))
    listed = farm.dispatcher.jobs
    assert [job.id for job in listed(STUDIO)] == numbers[::-1]
    assert [job.id for job in listed(STUDIO, limit=2, before=numbers[3])] == [numbers[2], numbers[1]]
    assert [job.id for job in listed(STUDIO, JobFilter(shot="sh1"))] == [numbers[3], numbers[1]]
    assert [job.id for job in listed(STUDIO, JobFilter(states={JobState.PAUSED}))] == [numbers[4]]
    assert [job.id for job in listed(STUDIO, JobFilter(user="ann", shot="sh0"))] == [numbers[0]]
    assert listed(STUDIO, JobFilter(show="another")) == ()


def test_versions_are_listed_when_they_are_published(farm: QueueFarm) -> None:
    farm.submit("1001", shot="sh1")
    farm.finish()
    reserved = farm.submit("1001", shot="sh2")
    listed = farm.dispatcher.versions
    assert [version.shot for version in listed(STUDIO)] == ["sh1"]
    every = VersionFilter(states=None)
    assert [version.shot for version in listed(STUDIO, every)] == ["sh2", "sh1"]
    assert [v.job_id for v in listed(STUDIO, VersionFilter(states={VersionState.RESERVED}))] == [reserved.id]
    assert listed(STUDIO, VersionFilter(product="matte")) == ()
    with pytest.raises(NotFoundError):
        farm.dispatcher.version(STUDIO, 99)


def test_counts_and_workers_tell_how_the_farm_is_doing(farm: QueueFarm) -> None:
    job = farm.submit()
    held = farm.take("busy", tags={"os": "linux"}, software="0.1", model="net", host="box")
    assert farm.claim("idle", pools=("none",)) is None
    assert dict(farm.dispatcher.counts(STUDIO).jobs) == {"running": 1}
    assert dict(farm.dispatcher.counts(STUDIO).chunks) == {"depend": 1, "running": 1, "waiting": 2}
    assert dict(farm.dispatcher.counts(STUDIO).workers) == {"busy": 1, "idle": 1}
    busy, _ = farm.dispatcher.workers(STUDIO)
    assert (busy.chunk_id, busy.job_id, busy.tags, busy.host) == (held.chunk_id, job.id, {"os": "linux"}, "box")
    farm.pass_time(farm.settings.alive_s + 1)
    assert {worker.state for worker in farm.dispatcher.workers(STUDIO)} == {"lost"}


def test_everything_that_is_looked_at_is_json(farm: QueueFarm) -> None:
    job = farm.submit(fits=True)
    farm.fail(farm.take())
    detail = farm.job(job.id)
    assert json.loads(json.dumps(detail.as_json()))["chunks"][0]["attempts"][0]["kind"] == "error"
    for record in (*farm.dispatcher.jobs(STUDIO), *farm.dispatcher.workers(STUDIO), farm.dispatcher.counts(STUDIO)):
        json.dumps(record.as_json())


# Why isn't my job starting?


def test_why_a_job_waits_is_said_in_words(farm: QueueFarm) -> None:
    why = farm.dispatcher.why_waiting
    first = farm.submit("1001")
    assert "No worker is alive" in why(STUDIO, first.id)
    farm.run(farm.dispatcher.arrive(WorkerHello("w1", STUDIO, pools=("gpu",), memory_mb=1000)))
    assert "serves the pool 'default'" in why(STUDIO, first.id)
    farm.run(farm.dispatcher.arrive(WorkerHello("w1", STUDIO, memory_mb=99)))
    assert "needs 100 MB in one session, and no live worker has more than 99 MB" in why(STUDIO, first.id)
    farm.run(farm.dispatcher.arrive(WorkerHello("w1", STUDIO)))
    assert "It is next" in why(STUDIO, first.id)
    later = farm.submit("1001-1004")
    assert "1 chunk of the same pool go" in why(STUDIO, later.id)
    held = farm.take("w1")
    assert "It is running: 1 chunk on workers now" in why(STUDIO, first.id)
    assert "All 1 live workers are busy" in why(STUDIO, later.id)
    farm.fail(held, "w1", FailureKind.STORAGE, "the disk is full")
    assert "tried again in 10 s after: the disk is full" in why(STUDIO, first.id)
    farm.run(farm.dispatcher.pause(STUDIO, first.id))
    assert "paused" in why(STUDIO, first.id)
    farm.run(farm.dispatcher.cancel(STUDIO, first.id))
    assert "waits for nothing: it was cancelled" in why(STUDIO, first.id)


# Events


def test_events_tell_of_every_change_in_order_and_after_its_commit(farm: QueueFarm) -> None:
    async def listen() -> list[Event]:
        subscription = farm.dispatcher.subscribe(STUDIO)
        foreign = farm.dispatcher.subscribe("elsewhere")
        steps = job_steps("1001", fits=False)
        job = (await farm.dispatcher.submit(job_spec("1001"), steps, work=WorkFacts("roto", 1))).job.id
        held = await farm.dispatcher.claim(WorkerHello("w1", STUDIO))
        assert held is not None
        where = (STUDIO, "w1", held.chunk_id, held.attempt)
        await farm.dispatcher.progress(*where, fraction=0.5, done_frames="1001", previews=(1001,))
        await farm.dispatcher.complete(*where, {})
        with pytest.raises(StateError):
            await farm.dispatcher.resume(STUDIO, job)
        events = []
        while (event := await subscription.next(0.05)) is not None:
            events.append(event)
        assert await foreign.next(0.01) is None
        subscription.close()
        foreign.close()
        return events

    events = farm.run(listen())
    assert [(event.kind, event.data.get("state")) for event in events] == [
        ("job", "waiting"),
        ("chunk", "running"),
        ("job", "running"),
        ("preview", "running"),
        ("chunk", "succeeded"),
        ("chunk", "waiting"),
    ]
    assert [event.id for event in events] == list(range(events[0].id, events[0].id + 6))
    assert events[3].data["previews"] == [1001]


def test_a_listener_that_falls_behind_is_told_to_look_anew(farm: QueueFarm) -> None:
    async def listen() -> list[EventKind]:
        subscription = farm.dispatcher.subscribe(STUDIO, limit=4)
        for number in range(9):
            await farm.dispatcher.arrive(WorkerHello(f"w{number}", STUDIO))
        kinds = []
        while (event := await subscription.next(0.05)) is not None:
            kinds.append(event.kind)
        return kinds

    kinds = farm.run(listen())
    assert kinds[0] is EventKind.RESYNC
    assert len(kinds) <= 4


def test_a_listener_that_comes_back_gets_what_it_missed(farm: QueueFarm) -> None:
    async def listen() -> None:
        first = farm.dispatcher.subscribe(STUDIO)
        await farm.dispatcher.arrive(WorkerHello("w1", STUDIO))
        seen = await first.next(1)
        assert seen is not None
        first.close()
        await farm.dispatcher.arrive(WorkerHello("w2", STUDIO))
        back = farm.dispatcher.subscribe(STUDIO, last_id=seen.id)
        missed = await back.next(1)
        assert missed is not None and (missed.id, missed.data["worker"]) == (seen.id + 1, "w2")
        assert await back.next(0.01) is None
        stranger = await farm.dispatcher.subscribe(STUDIO, last_id=5).next(1)
        assert stranger is not None and stranger.kind is EventKind.RESYNC

    farm.run(listen())

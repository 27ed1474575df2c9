"""What work has cost, derived from its attempts and kept nowhere else.

An attempt costs the seconds between its start and its end, or until now while it runs, by the dispatcher's clock: these are
machine-seconds. Times its worker's GPUs they are GPU-seconds, times its rate money; both are those that held when it began,
so history doesn't change when prices do. Every attempt counts, also one that came to nothing: `lost_s` are the seconds of
those that failed, were lost or were taken back. An attempt belongs to the time at which it began; days are UTC's.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Float, Integer, Select, and_, case, cast, func, literal, literal_column, select

from farm.moves import in_states
from farm.records import Cost, Record
from farm.states import AttemptState, JobState, VersionState
from farm.store import Transaction
from farm.tables import ATTEMPT, CHUNK, JOB, VERSION
from pipeline.frames import FrameRange
from pipeline.jobs.plan import StepName
from pipeline.policy import Spend, Usage

By = Literal["job", "show", "shot", "model", "task", "user", "worker", "day", "use"]
WAYS: tuple[By, ...] = get_args(By)
MOST_ROWS = 1_000
MOST_DAYS = 4_000
"""Days that a book remembers, each way of adding up by itself."""
SETTLED_S = 60.0
"""So long after its end nothing can be added to a day any more."""
DAY_S, HOUR_S = 86_400.0, 3600.0
UNFINISHED = frozenset({JobState.WAITING, JobState.RUNNING, JobState.PAUSED})
"""Jobs that will spend more: what they were said to cost, and haven't yet, is promised."""
SPOILT = frozenset({AttemptState.FAILED, AttemptState.LOST, AttemptState.STOPPED})
"""Attempts that came to nothing."""


@dataclass(frozen=True, slots=True)
class UsageRow(Record):
    """What one job, show, shot, model, task, person, worker, day or use has cost."""

    key: str
    """The job's number, `show/sequence/shot`, a model as `task:model`, a day as `2026-11-22`, else a name; may be empty."""
    name: str
    """What a job does; empty for all else."""
    machine_s: float
    gpu_s: float
    money: float
    lost_s: float
    jobs: int
    frames: int | None
    """Frames of the versions that were published; None where they can't be told apart: by worker."""


@dataclass(frozen=True, slots=True)
class UsageTable(Record):
    """What a studio's work has cost: the dearest first, days as they went. `total` is of all rows, also of those left out."""

    by: By
    since: float | None
    until: float | None
    currency: str
    rows: tuple[UsageRow, ...]
    more: int
    """Rows that were left out."""
    total: UsageRow


def usage(
    tx: Transaction,
    studio: str,
    *,
    by: By,
    now: float,
    since: float | None = None,
    until: float | None = None,
    show: str | None = None,
    currency: str = "",
    limit: int = MOST_ROWS,
    book: UsageBook | None = None,
) -> UsageTable:
    """What a studio, or one show of it, has spent on attempts that began from `since` until before `until`.

    With a `book`, days that are over are added up once.
    """
    asked = _Asked(studio, show, since, until, now)
    found = _Part()
    for part in [_part(tx, asked, by)] if book is None else book.parts(tx, asked, by):
        found.join(part)
    no_frames = by == "worker"
    rows = [one.row(by, key, None if no_frames else found.frames.get(key, 0)) for key, one in found.sums.items()]
    rows.sort(key=lambda row: row.key if by == "day" else (-row.money, -row.machine_s, row.key))
    every = _Sum()
    for one in found.sums.values():
        every.join(one)
    total = every.row("show", ("",), None if no_frames else sum(found.frames.values()))
    return UsageTable(by, since, until, currency, tuple(rows[:limit]), max(0, len(rows) - limit), total)


def cost_of(attempts: Iterable[Any], *, now: float, currency: str) -> Cost:
    """What some rows of attempts add up to."""
    total = _Sum()
    for row in attempts:
        seconds = (now if row.ended_at is None else row.ended_at) - row.started_at
        total.machine_s += seconds
        total.gpu_s += seconds * row.gpus
        total.money += seconds * row.rate
        total.lost_s += seconds * (row.state in SPOILT)
    return Cost(*total.amounts(), currency)


@dataclass(slots=True)
class _Sum:
    """What some attempts add up to."""

    machine_s: float = 0.0
    gpu_s: float = 0.0
    money: float = 0.0
    lost_s: float = 0.0
    jobs: set[int] = field(default_factory=set)

    def add(self, row: Any) -> None:
        """A row of the database: one job's part."""
        self._more(row)
        self.jobs.add(row.job)

    def join(self, other: _Sum) -> None:
        """Another sum, of other attempts."""
        self._more(other)
        self.jobs |= other.jobs

    def _more(self, amounts: Any) -> None:
        self.machine_s += amounts.machine_s
        self.gpu_s += amounts.gpu_s
        self.money += amounts.money
        self.lost_s += amounts.lost_s

    def amounts(self) -> tuple[float, float, float, float]:
        """As they are told: in thousandths of a second and millionths of money."""
        return round(self.machine_s, 3), round(self.gpu_s, 3), round(self.money, 6), round(self.lost_s, 3)

    def row(self, by: By, key: Sequence[Any], frames: int | None) -> UsageRow:
        """The value that is told."""
        return UsageRow(
            _told(by, key),
            str(key[1]) if by == "job" else "",
            *self.amounts(),
            jobs=len(self.jobs),
            frames=frames,
        )


def _told(by: By, key: Sequence[Any]) -> str:
    if by == "day":
        return datetime.fromtimestamp(key[0] * DAY_S, UTC).date().isoformat()
    return "/".join(part for part in key if part) if by == "shot" else str(key[0])


@dataclass(slots=True)
class _Part:
    """The sums of some time, and the frames that were published in it."""

    sums: dict[tuple[Any, ...], _Sum] = field(default_factory=dict)
    frames: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def join(self, other: _Part) -> None:
        """Another time's."""
        for key, one in other.sums.items():
            self.sums.setdefault(key, _Sum()).join(one)
        for key, number in other.frames.items():
            self.frames[key] = self.frames.get(key, 0) + number


def _part(tx: Transaction, asked: _Asked, by: By) -> _Part:
    """What the database says of a time."""
    found = _Part()
    width = len(_OF_JOB.get(by, ("key",)))
    for row in tx.rows(asked.sums(by)):
        found.sums.setdefault(tuple(row[:width]), _Sum()).add(row)
    for row in () if by == "worker" else tx.rows(asked.published(by)):
        key = tuple(row[:width])
        found.frames[key] = found.frames.get(key, 0) + row.versions * len(FrameRange.parse(row.written))
    return found


class UsageBook:
    """Days that are over, added up. An attempt that has ended never changes, so neither does a day whose attempts all have."""

    def __init__(self) -> None:
        self._days: OrderedDict[tuple[str, str | None, By, int], _Part] = OrderedDict()
        self._lock = Lock()

    def parts(self, tx: Transaction, asked: _Asked, by: By) -> Iterator[_Part]:
        """What was asked for, in parts: what is left of the first day, whole days, and the rest."""
        oldest = _oldest(tx)
        if oldest is None:
            yield _part(tx, asked, by)
            return
        # Before the first attempt there are no days to add up, however long ago somebody asks for.
        since = max(math.floor(oldest / DAY_S) * DAY_S, asked.since or 0.0)
        end = asked.now if asked.until is None else min(asked.until, asked.now)
        first, last = math.ceil(since / DAY_S), math.floor(end / DAY_S)
        if last <= first:
            yield _part(tx, asked, by)
            return
        if since < first * DAY_S:
            yield _part(tx, replace(asked, since=since, until=first * DAY_S), by)
        for day in range(first, last):
            yield self._day(tx, asked, by, day)
        yield _part(tx, replace(asked, since=last * DAY_S), by)

    def _day(self, tx: Transaction, asked: _Asked, by: By, day: int) -> _Part:
        place = (asked.studio, asked.show, by, day)
        with self._lock:
            if place in self._days:
                self._days.move_to_end(place)
                return self._days[place]
        over = (day + 1) * DAY_S
        whole = replace(asked, since=day * DAY_S, until=over)
        part = _part(tx, whole, by)
        # What is being committed just now may have begun a moment ago.
        if over + SETTLED_S <= asked.now and tx.first(whole.running()) is None:
            with self._lock:
                self._days[place] = part
                while len(self._days) > MOST_DAYS:
                    self._days.popitem(last=False)
        return part


def _oldest(tx: Transaction) -> float | None:
    """When the first attempt of all began; None before it."""
    row = tx.first(select(func.min(ATTEMPT.c.started_at).label("at")))
    return None if row is None or row.at is None else float(row.at)


# SQL, the same on SQLite and PostgreSQL


def _sums(now: float) -> list[ColumnElement[Any]]:
    seconds = func.coalesce(ATTEMPT.c.ended_at, literal(now, Float())) - ATTEMPT.c.started_at
    return [
        func.sum(seconds).label("machine_s"),
        func.sum(seconds * ATTEMPT.c.gpus).label("gpu_s"),
        func.sum(seconds * ATTEMPT.c.rate).label("money"),
        func.sum(case((in_states(ATTEMPT.c.state, SPOILT), seconds), else_=0.0)).label("lost_s"),
    ]


def _day(column: ColumnElement[Any]) -> ColumnElement[int]:
    """Days since 1970. Neither `floor` nor what a cast does with a fraction is the same everywhere; rounding is, but for
    halves, which the last term keeps away from."""
    return cast(func.round(column / DAY_S - 0.5 + 1e-9), Integer)


_OF_JOB: dict[By, tuple[ColumnElement[Any], ...]] = {
    "job": (JOB.c.id, JOB.c.name),
    "show": (JOB.c.show,),
    "shot": (JOB.c.show, JOB.c.sequence, JOB.c.shot),
    "task": (JOB.c.task,),
    "user": (JOB.c.user,),
    "use": (JOB.c.use,),
}
"""Ways that a whole job falls under."""
_OF_ATTEMPT: dict[By, ColumnElement[Any]] = {
    "model": CHUNK.c.model,
    "worker": ATTEMPT.c.worker,
    "day": _day(ATTEMPT.c.started_at),
}
"""Ways that part a job."""
_JOB_OF_CHUNK = CHUNK.c.job + literal_column("0")
"""As a sum, so that SQLite doesn't walk through all chunks there are to have their jobs in order."""
_WITH_CHUNK = ATTEMPT.join(CHUNK, CHUNK.c.id == ATTEMPT.c.chunk)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whose attempts are added up, and of what time."""

    studio: str
    show: str | None
    since: float | None
    until: float | None
    now: float

    def sums(self, by: By) -> Select[Any]:
        """A row for each value of `by` and each job in it: the columns of `by`, `job`, the sums."""
        keys = [_OF_ATTEMPT[by]] if by in _OF_ATTEMPT else []
        of_each_job = (
            select(*(key.label("key") for key in keys), _JOB_OF_CHUNK.label("job"), *_sums(self.now))
            .select_from(_WITH_CHUNK)
            .where(CHUNK.c.studio == self.studio, *self._period())
            .group_by(*keys, _JOB_OF_CHUNK)
        )
        if keys and self.show is None:
            return of_each_job
        part = of_each_job.subquery()
        columns = [part.c.key] if keys else _OF_JOB[by]
        amounts = (part.c.job, part.c.machine_s, part.c.gpu_s, part.c.money, part.c.lost_s)
        return select(*columns, *amounts).select_from(part.join(JOB, JOB.c.id == part.c.job)).where(*self._of_show())

    def published(self, by: By) -> Select[Any]:
        """The columns of `by`, the frames of versions, and how many have just these. A version belongs to when its publish began."""
        columns = _OF_JOB[by] if by in _OF_JOB else (_OF_ATTEMPT[by],)
        joined = _WITH_CHUNK.join(JOB, JOB.c.id == CHUNK.c.job).join(
            VERSION, and_(VERSION.c.job == CHUNK.c.job, VERSION.c.take == CHUNK.c.take)
        )
        return (
            select(*columns, VERSION.c.frames.label("written"), func.count().label("versions"))
            .select_from(joined)
            .where(
                CHUNK.c.studio == self.studio,
                CHUNK.c.step == StepName.PUBLISH.value,
                CHUNK.c.attempt == ATTEMPT.c.number,
                in_states(ATTEMPT.c.state, {AttemptState.SUCCEEDED}),
                in_states(VERSION.c.state, {VersionState.PUBLISHED}),
                *self._period(),
                *self._of_show(),
            )
            .group_by(*columns, VERSION.c.frames)
        )

    def running(self) -> Select[Any]:
        """A row if any attempt of the time still runs."""
        still = in_states(ATTEMPT.c.state, {AttemptState.RUNNING})
        return select(ATTEMPT.c.chunk).where(still, *self._period()).limit(1)

    def _period(self) -> list[ColumnElement[bool]]:
        since = [] if self.since is None else [ATTEMPT.c.started_at >= self.since]
        return since if self.until is None else [*since, ATTEMPT.c.started_at < self.until]

    def _of_show(self) -> list[ColumnElement[bool]]:
        return [] if self.show is None else [JOB.c.show == self.show]


# For a budget


def spent(
    tx: Transaction,
    studio: str,
    show: str | None,
    *,
    since: float | None,
    now: float,
    currency: str = "",
    book: UsageBook | None = None,
) -> Usage:
    """What a show has spent since then, or the whole studio without one, and what its unfinished jobs were said to cost more.

    A job that nobody could estimate promises nothing. The caller adds what the job in question asks for, with `asking`.
    """
    total = usage(tx, studio, by="show", now=now, since=since, show=show, book=book).total
    promised = [0.0, 0.0, 0.0]
    for left in _left_of_unfinished(tx, studio, show, now):
        promised = [a + b for a, b in zip(promised, left, strict=True)]
    machine_s, gpu_s, money = promised
    return Usage(
        money=Spend(spent=total.money, committed=money),
        machine_hours=Spend(spent=total.machine_s / HOUR_S, committed=machine_s / HOUR_S),
        gpu_hours=Spend(spent=total.gpu_s / HOUR_S, committed=gpu_s / HOUR_S),
        currency=currency,
    )


def asking(usage: Usage, estimate: Mapping[str, Any] | None) -> Usage:
    """The same with what one more job asks for: its estimate, as JSON. Without one nobody knows."""
    if estimate is None:
        return usage
    return replace(
        usage,
        money=replace(usage.money, asked=estimate["money"]),
        machine_hours=replace(usage.machine_hours, asked=estimate["machine_s"] / HOUR_S),
        gpu_hours=replace(usage.gpu_hours, asked=estimate["gpu_s"] / HOUR_S),
    )


def _left_of_unfinished(tx: Transaction, studio: str, show: str | None, now: float) -> list[tuple[float, ...]]:
    """Machine-seconds, GPU-seconds and money that each unfinished job may still take, by its estimate."""
    part = (
        select(CHUNK.c.job, *_sums(now))
        .select_from(_WITH_CHUNK.join(JOB, JOB.c.id == CHUNK.c.job))
        .where(JOB.c.studio == studio, in_states(JOB.c.state, UNFINISHED))
        .group_by(CHUNK.c.job)
        .subquery()
    )
    statement = (
        select(JOB.c.estimate, part.c.machine_s, part.c.gpu_s, part.c.money)
        .select_from(JOB.outerjoin(part, part.c.job == JOB.c.id))
        .where(JOB.c.studio == studio, in_states(JOB.c.state, UNFINISHED), JOB.c.estimate != "")
    )
    if show is not None:
        statement = statement.where(JOB.c.show == show)
    left = []
    for row in tx.rows(statement):
        said = json.loads(row.estimate)
        used = (row.machine_s or 0.0, row.gpu_s or 0.0, row.money or 0.0)
        amounts = (said["machine_s"], said["gpu_s"], said["money"])
        left.append(tuple(max(0.0, amount - so_far) for amount, so_far in zip(amounts, used, strict=True)))
    return left

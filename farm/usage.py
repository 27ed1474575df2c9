"""What work has cost, derived from its attempts and kept nowhere else.

An attempt costs the seconds between its start and its end, or until now while it runs, by the dispatcher's clock: these are
machine-seconds. Times its worker's GPUs they are GPU-seconds, times its rate money; both are those that held when it began,
so history doesn't change when prices do. Every attempt counts, also one that came to nothing: `lost_s` are the seconds of
those that failed, were lost or were taken back. An attempt belongs to the time at which it began; days are UTC's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Float, Integer, Select, and_, case, cast, func, literal, select

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
) -> UsageTable:
    """What a studio, or one show of it, has spent on attempts that began from `since` until before `until`."""
    asked = _Asked(studio, show, since, until, now)
    width = len(_OF_JOB.get(by, ("key",)))
    found: dict[tuple[Any, ...], _Sum] = {}
    for row in tx.rows(asked.sums(by)):
        found.setdefault(tuple(row[:width]), _Sum()).add(row)
    frames: dict[tuple[Any, ...], int] = {}
    for row in () if by == "worker" else tx.rows(asked.published(by)):
        key = tuple(row[:width])
        frames[key] = frames.get(key, 0) + row.versions * len(FrameRange.parse(row.written))
    rows = [one.row(by, key, None if by == "worker" else frames.get(key, 0)) for key, one in found.items()]
    rows.sort(key=lambda row: row.key if by == "day" else (-row.money, -row.machine_s, row.key))
    every = _Sum()
    for one in found.values():
        every.join(one)
    total = every.row("show", ("",), None if by == "worker" else sum(frames.values()))
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
    whole: int = 0
    """Jobs that the database has counted: all of each is here."""
    parts: set[int] = field(default_factory=set)
    """Jobs of which others may have a part too."""

    def add(self, row: Any) -> None:
        """A row of the database."""
        self._more(row)
        if hasattr(row, "jobs"):
            self.whole += row.jobs
        else:
            self.parts.add(row.job)

    def join(self, other: _Sum) -> None:
        """Another sum, of other attempts."""
        self._more(other)
        self.whole += other.whole
        self.parts |= other.parts

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
            jobs=self.whole + len(self.parts),
            frames=frames,
        )


def _told(by: By, key: Sequence[Any]) -> str:
    if by == "day":
        return datetime.fromtimestamp(key[0] * DAY_S, UTC).date().isoformat()
    return "/".join(part for part in key if part) if by == "shot" else str(key[0])


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
"""Ways that a whole job falls under: its attempts are added up first, then the jobs."""
_OF_ATTEMPT: dict[By, ColumnElement[Any]] = {
    "model": CHUNK.c.model,
    "worker": ATTEMPT.c.worker,
    "day": _day(ATTEMPT.c.started_at),
}
"""Ways that part a job."""
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
        """The columns of `by`, the sums, and `jobs`: how many. Where `by` parts jobs, a row for each `job` instead."""
        keys = [_OF_ATTEMPT[by]] if by in _OF_ATTEMPT else []
        of_each_job = (
            select(*(key.label("key") for key in keys), CHUNK.c.job, *_sums(self.now))
            .select_from(_WITH_CHUNK)
            .where(CHUNK.c.studio == self.studio, *self._period())
            .group_by(*keys, CHUNK.c.job)
        )
        if keys and self.show is None:
            return of_each_job
        part = of_each_job.subquery()
        joined = part.join(JOB, JOB.c.id == part.c.job)
        if keys:
            return select(*part.c).select_from(joined).where(*self._of_show())
        added = [func.sum(part.c[name]).label(name) for name in ("machine_s", "gpu_s", "money", "lost_s")]
        columns = _OF_JOB[by]
        counted = select(*columns, func.count().label("jobs"), *added).select_from(joined)
        return counted.where(*self._of_show()).group_by(*columns)

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

    def _period(self) -> list[ColumnElement[bool]]:
        since = [] if self.since is None else [ATTEMPT.c.started_at >= self.since]
        return since if self.until is None else [*since, ATTEMPT.c.started_at < self.until]

    def _of_show(self) -> list[ColumnElement[bool]]:
        return [] if self.show is None else [JOB.c.show == self.show]


# For a budget


def spent(
    tx: Transaction, studio: str, show: str | None, *, since: float | None, now: float, currency: str = ""
) -> Usage:
    """What a show has spent since then, or the whole studio without one, and what its unfinished jobs were said to cost more.

    A job that nobody could estimate promises nothing. The caller adds what the job in question asks for, with `asking`.
    """
    total = usage(tx, studio, by="show", now=now, since=since, show=show).total
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

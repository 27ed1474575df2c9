"""What the page of costs shows: bars by day, tables, budgets. Pure functions, as `views`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from farm.estimates import Accuracy
from farm.usage import UsageRow, UsageTable
from farm.web.plots import MOST_BARS, Axis, Tick, of_values
from pipeline.decision import Spend, Usage
from pipeline.rules import Rules

MOST_SHOWS = 6
"""Shows with a colour of their own; all others are one more."""
MOST_LINES = 12
"""Rows of a table, unless somebody asks for all."""
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Piece:
    """One show's part of a bar: its colour's number, and its place in percent from the top."""

    colour: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One day, or a few. In percent from the left."""

    x: float
    width: float
    pieces: tuple[Piece, ...]
    title: str


@dataclass(frozen=True, slots=True)
class DayPlot:
    """Machine-hours by day, stacked by show."""

    shows: tuple[str, ...]
    bars: tuple[Bar, ...]
    days: int
    """How many a bar stands for."""
    unit: str
    y: Axis
    ticks: tuple[Tick, ...]

    @property
    def words(self) -> str:
        """The plot for whoever doesn't see it."""
        return f"Machine time by {'day' if self.days == 1 else f'{self.days} days'}, by show"


def day_plot(whole: UsageTable, shows: Mapping[str, UsageTable], *, first: date | None, last: date) -> DayPlot | None:
    """Bars from `first` (None: the first day with work) to `last`. `shows` in the order of their colours; None without work."""
    if not whole.rows:
        return None
    begin = first or date.fromisoformat(whole.rows[0].key)
    days = max(1, math.ceil(((last - begin).days + 1) / MOST_BARS))
    count = max(1, math.ceil(((last - begin).days + 1) / days))
    sums = [[0.0] * (len(shows) + 1) for _ in range(count)]
    lost = [0.0] * count
    for number, table in enumerate(shows.values()):
        for row in table.rows:
            if (place := _bin(row, begin, days, count)) is not None:
                sums[place][number] += row.machine_s
    for row in whole.rows:
        if (place := _bin(row, begin, days, count)) is not None:
            sums[place][-1] += row.machine_s
            lost[place] += row.lost_s
    for of in sums:
        of[-1] = max(0.0, of[-1] - sum(of[:-1]))
    top = max(sum(of) for of in sums)
    divisor, unit = (3600.0, "hours") if top >= 3600 else (60.0, "minutes")
    y = of_values([sum(of) / divisor for of in sums], from_zero=True)
    names = tuple(shows)
    others = any(of[-1] > 1e-6 * max(top, 1.0) for of in sums)
    width = 100 / count
    bars = tuple(
        Bar(
            x=round(place * width + width * 0.12, 3),
            width=round(width * 0.76, 3),
            pieces=tuple(_stacked(of, divisor, y)),
            title=_title(begin + timedelta(days=place * days), days, of, lost[place], names),
        )
        for place, of in enumerate(sums)
    )
    return DayPlot((*names, *([OTHERS] if others else [])), bars, days, unit, y, tuple(_days(begin, days, count)))


def _bin(row: UsageRow, begin: date, days: int, count: int) -> int | None:
    place = (date.fromisoformat(row.key) - begin).days // days
    return place if 0 <= place < count else None


def _stacked(of: Sequence[float], divisor: float, y: Axis) -> list[Piece]:
    found: list[Piece] = []
    below = 0.0
    for colour, seconds in enumerate(of):
        if seconds > 0:
            bottom, top = y.place(below / divisor), y.place((below + seconds) / divisor)
            found.append(Piece(colour if colour < len(of) - 1 else MOST_SHOWS, top, round(bottom - top, 3)))
            below += seconds
    return found


def _title(day: date, days: int, of: Sequence[float], lost: float, names: Sequence[str]) -> str:
    """A bar in words: `2026-11-22: 3.0 min (dune 2.0 min, ark 1.0 min); 12 s came to nothing`."""
    when = day.isoformat() if days == 1 else f"{day.isoformat()} to {(day + timedelta(days=days - 1)).isoformat()}"
    named = zip((*names, OTHERS), of, strict=True)
    parts = ", ".join(f"{name or 'no show'} {hours(seconds)}" for name, seconds in named if seconds)
    return f"{when}: {hours(sum(of))} ({parts})" + (f"; {hours(lost)} came to nothing" if lost else "")


def _days(begin: date, days: int, count: int) -> list[Tick]:
    """About seven dates under the bars."""
    every = max(1, math.ceil(count / 7))
    far = count * days > 330
    return [
        Tick(
            round(100 * (place + 0.5) / count, 3),
            (begin + timedelta(days=place * days)).strftime("%b %Y" if far else "%d %b"),
        )
        for place in range(0, count, every)
    ]


def day_of(at: float) -> date:
    """The day in UTC."""
    return datetime.fromtimestamp(at, UTC).date()


def hours(seconds: float) -> str:
    """`41 s`, `3.4 min`, `12.5 h`."""
    if seconds < 60:
        return f"{seconds:.3g} s" if 0 < seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def money(amount: float, currency: str) -> str:
    """`12.40 EUR`; what is less than a hundredth is told in full."""
    text = f"{amount:.2f}" if amount == 0 or abs(amount) >= 0.01 else f"{amount:.2g}"
    return f"{text} {currency}".strip()


def percent(part: float, whole: float) -> float:
    """Of a whole; 0 of nothing."""
    return round(100 * part / whole, 2) if whole > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """A row of a table with its bar: all of it, and what of it came to nothing, in percent of the longest."""

    row: UsageRow
    name: str
    to: str
    spent: float
    lost: float


def shares(table: UsageTable, cards: Mapping[str, tuple[int, str]] | None = None) -> tuple[Share, ...]:
    """The rows with their bars. `cards`: the first twelve signs of weights' hashes → their card's number and label."""
    longest = max((row.machine_s for row in table.rows), default=0.0)
    return tuple(
        Share(
            row,
            *_named(table, row, cards or {}),
            percent(row.machine_s - row.lost_s, longest),
            percent(row.lost_s, longest),
        )
        for row in table.rows
    )


_NAMELESS = {"show": "no show", "shot": "no shot", "model": "no model", "user": "nobody named", "worker": "no name"}


def _named(table: UsageTable, row: UsageRow, cards: Mapping[str, tuple[int, str]]) -> tuple[str, str]:
    """What a row is called, and the page that tells more; empty where there is none."""
    if table.by == "model" and (of := cards.get(row.key.rpartition("@")[2])):
        return f"{row.key.partition(':')[0]}:{of[1]}", f"/models/{of[0]}"
    to = f"/jobs?{urlencode([(str(table.by), row.key)])}" if table.by in ("show", "task", "user") and row.key else ""
    return row.key or _NAMELESS.get(table.by, ""), to


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One budget of a show in its period. Bars in percent; `over` when nothing is left."""

    show: str
    what: str
    most: str
    spent: str
    committed: str
    spent_bar: float
    committed_bar: float
    over: bool
    file: str
    period: str


def budget_lines(show: str, rules: Rules, usage: Usage | None) -> tuple[BudgetLine, ...]:
    """A show's budgets, and how much of each is used."""
    if usage is None:
        return ()
    found = []
    for name, unit in (("machine_hours", "h"), ("gpu_hours", "h"), ("money", usage.currency)):
        most = rules.said(f"budget.{name}")
        if most is None:
            continue
        spend: Spend = getattr(usage, name)
        known = spend.spent is not None
        spent, committed = spend.spent or 0.0, spend.committed or 0.0
        found.append(
            BudgetLine(
                show=show,
                what=name.replace("_", " "),
                most=f"{most:g} {unit}".strip(),
                spent=_amount(name, spent, unit) if known else "not known: no price is set",
                committed=_amount(name, committed, unit) if committed else "",
                spent_bar=min(100.0, percent(spent, most) if most > 0 else 100.0),
                committed_bar=min(100.0, percent(committed, most)),
                over=known and spent + committed >= most,
                file=rules.source(f"budget.{name}"),
                period=rules.period,
            )
        )
    return tuple(found)


def _amount(name: str, amount: float, unit: str) -> str:
    return money(amount, unit) if name == "money" else hours(3600 * amount)


def accuracy_words(one: Accuracy) -> str:
    """`typically 12 % off, mostly too low`."""
    words = f"typically {100 * one.typical:.0f} % off"
    if abs(one.bias) < 0.02:
        return f"{words}, to either side"
    return (
        f"{words}, jobs took {'longer' if one.bias > 0 else 'less'} than said ({100 * one.bias:+.0f} % in the median)"
    )

"""The gate before dispatch: whether a job, a training or a promotion keeps a show's rules, and why.

Everything here is a pure function of what it is given. The types are those of `pipeline.decision`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import chain

from pipeline.decision import (
    Check,
    Clearance,
    Decision,
    Outcome,
    Spend,
    Subject,
    TrainingVersion,
    Usage,
    UsedModel,
    address,
    utc,
)
from pipeline.rules import NO_RULES, ClearanceKind, Period, Rules, Use

__all__ = [
    "NO_RULES",
    "Check",
    "Clearance",
    "Decision",
    "Spend",
    "Subject",
    "TrainingVersion",
    "Usage",
    "UsedModel",
    "decide",
    "decide_training",
    "may_promote",
    "period_start",
    "use_of",
]
DEFAULT_USE: Use = "temp"
"""What a job is for when neither it nor a rule says so."""


def use_of(subject: Subject, rules: Rules) -> Use:
    """What it is for: its own word, else the rules', else temp."""
    return subject.use or rules.said("use.default") or DEFAULT_USE


def decide(
    subject: Subject, rules: Rules, clearances: Sequence[Clearance] = (), usage: Usage | None = None, *, now: float
) -> Decision:
    """Whether a job may be. `clearances` are the studio's own; `now` is in seconds since 1970."""
    use = use_of(subject, rules)
    found = chain(
        _use(subject, rules, use),
        _models(subject, rules, use),
        _cleared(subject, rules, use, clearances, now),
        _approved(subject, rules, use, clearances, now),
        _budget(subject, rules, usage or Usage()),
    )
    return Decision(subject=subject, use=use, files=rules.files, checks=tuple(found), decided_at=now)


def decide_training(
    subject: Subject,
    versions: Sequence[TrainingVersion],
    rules: Mapping[str, Rules],
    usage: Usage | None = None,
    *,
    now: float,
) -> Decision:
    """Whether a model may learn from these versions. Every one needs its own show's clearance, rules or none.

    `rules` holds those of the subject's show and of every version's. The subject's models are the weights that it starts
    from: they and the budget are held to the rules of the subject's show.
    """
    own = rules[subject.show]
    use = use_of(subject, own)
    found = chain(
        _use(subject, own, use),
        _models(subject, own, use),
        *(_consent(version, rules[version.show], now) for version in versions),
        _budget(subject, own, usage or Usage()),
    )
    shows = dict.fromkeys([subject.show, *(version.show for version in versions)])
    files = dict.fromkeys(file for show in shows for file in rules[show].files)
    return Decision(subject=subject, use=use, files=tuple(files), checks=tuple(found), decided_at=now)


def may_promote(name: str, rules: Rules) -> Check:
    """Whether the token `name` may promote a model, or override a score that it lost."""
    rule = "approval.promote"
    names = rules.said(rule)
    if not names:
        return _check(rules, rule, "not asked", f"no rule names who promotes, so {name} may", about=name)
    if name in names:
        return _check(rules, rule, "kept", f"{name} may promote", about=name)
    return _check(
        rules, rule, "broken", f"{name} may not promote a model of this studio", about=name, hint=f"ask {_or(names)}"
    )


def period_start(period: Period, now: float) -> float | None:
    """When the period that holds `now` began, in UTC; a week begins on Monday. None: there was no beginning."""
    if period == "total":
        return None
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}
    return begin[period].timestamp()


def _use(subject: Subject, rules: Rules, use: Use) -> Iterator[Check]:
    rule = "use.default"
    if rules.said(rule) is not None:
        if subject.use:
            yield _check(rules, rule, "not asked", f"the job says {use}")
        else:
            yield _check(rules, rule, "kept", f"the job doesn't say what it is for, so it is a {use}")


def _models(subject: Subject, rules: Rules, use: Use) -> Iterator[Check]:
    looks = (("models.unregistered", _registration), ("models.licences", _licence), ("models.states", _state))
    for rule, look in looks:
        asks = rules.said(rule)
        if asks is None:
            continue
        yield from (look(model, rules, use) for model in subject.models)
        if not subject.models:
            yield _check(rules, rule, "not asked", "no weights are loaded")


def _check(rules: Rules, rule: str, outcome: Outcome, words: str, *, about: str = "", hint: str = "") -> Check:
    asks = rules.said(rule)
    return Check(rule=rule, file=rules.source(rule), outcome=outcome, words=words, about=about, asks=asks, hint=hint)


def _registration(model: UsedModel, rules: Rules, use: Use) -> Check:
    rule, name = "models.unregistered", model.name
    if model.registered:
        return _check(rules, rule, "not asked", f"{name} has a card", about=name)
    if model.shipped:
        return _check(rules, rule, "not asked", f"{name} comes with the task", about=name)
    if rules.said(rule) in ("always", use):
        return _check(rules, rule, "kept", f"{name} has no card, and a {use} may use it", about=name)
    hint = "register it with its licence, or name a model that has a card"
    hint += ", or submit it as a temp" if rules.said(rule) == "temp" else ""
    return _check(rules, rule, "broken", f"{name} has no card, and a {use} may not use it", about=name, hint=hint)


def _licence(model: UsedModel, rules: Rules, use: Use) -> Check:
    """Identifiers are compared without regard to case, as SPDX does."""
    rule, of_temps = "models.licences", "models.temp_licences"
    name, licence = model.name, model.licence
    finals, temps = rules.said(rule), rules.said(of_temps) or ()
    allowed = tuple(dict.fromkeys((*finals, *temps) if use == "temp" else finals))
    if not licence and not (model.registered or model.shipped) and rules.said("models.unregistered"):
        words = f"{name} has no card that tells its licence: models.unregistered decides"
        return _check(rules, rule, "not asked", words, about=name)
    if not licence:
        hint = f"register it with its licence, one of {_or(allowed)}"
        return _check(rules, rule, "broken", f"the licence of {name} isn't known", about=name, hint=hint)
    words = f"{name} is licensed {licence}"
    if _among(licence, finals):
        return _check(rules, rule, "kept", words, about=name)
    if _among(licence, allowed):
        return _check(rules, of_temps, "kept", f"{words}, which a temp may use", about=name)
    hint = f"use a model licensed {_or(allowed)}, or ask whoever keeps {rules.source(rule)}"
    if _among(licence, temps):
        words += f", which only a temp may use (models.temp_licences in {rules.source(of_temps)})"
        hint += ", or submit it as a temp"
    else:
        words += f", which a {use} of this show may not use"
        near = difflib.get_close_matches(licence.casefold(), [one.casefold() for one in allowed], 1, 0.8)
        hint += f"; if {near[0]} is meant, mend the model's card" if near else ""
    return _check(rules, rule, "broken", words, about=name, hint=hint)


def _among(licence: str, known: Sequence[str]) -> bool:
    return licence.casefold() in [one.casefold() for one in known]


def _state(model: UsedModel, rules: Rules, use: Use) -> Check:
    rule, name = "models.states", model.name
    if not model.registered:
        words = f"{name} {'comes with the task' if model.shipped else 'has no card'}"
        return _check(rules, rule, "not asked", words, about=name)
    said = rules.said(rule)
    allowed = tuple(dict.fromkeys((*said, "candidate"))) if use == "temp" else said
    if model.state in allowed:
        return _check(rules, rule, "kept", f"{name} is {model.state}", about=name)
    words = f"{name} is {model.state or 'in no known state'}, and a {use} may use what is {_or(allowed)}"
    hint = (
        "promote it, name another model, or submit it as a temp" if model.state == "candidate" else "name another model"
    )
    return _check(rules, rule, "broken", words, about=name, hint=hint)


def _cleared(subject: Subject, rules: Rules, use: Use, clearances: Sequence[Clearance], now: float) -> Iterator[Check]:
    rule = f"clearance.{use}"
    where = (subject.show, subject.sequence, subject.shot)
    for kind in dict.fromkeys(rules.said(rule) or ()):
        yield _yes(rule, kind, where, f"a {use} of {subject.address}", rules, clearances, now)


def _consent(version: TrainingVersion, rules: Rules, now: float) -> Iterator[Check]:
    rule = "clearance.training"
    where = (version.show, version.sequence, version.shot)
    about = f"{version.name} of {address(*where)}"
    for kind in dict.fromkeys(("training", *(rules.said(rule) or ()))):
        yield _yes(rule, kind, where, about, rules, version.clearances, now)


def _yes(
    rule: str,
    kind: ClearanceKind,
    where: tuple[str, str, str],
    about: str,
    rules: Rules,
    clearances: Sequence[Clearance],
    now: float,
) -> Check:
    """Whether there is a recorded yes of a kind for a shot, of someone whose word counts."""
    names = rules.said(f"clearance.by.{kind}") or ()
    asks = {"kind": kind, "by": list(names), "by_file": rules.source(f"clearance.by.{kind}")}
    counted, why = _counted(kind, where, names, clearances, now)
    if counted:
        words, hint = f"{kind} cleared for {about} {_given(counted)}", ""
    else:
        words = f"{about} needs a clearance of the kind {kind}{why}"
        hint = f"{_or(names) if names else 'anyone with the right'} may record one for {address(*where)}"
    return Check(
        rule=rule, file=rules.source(rule), outcome="kept" if counted else "broken", words=words, about=about,
        asks=asks, hint=hint, clearances=counted,
    )  # fmt: skip


def _approved(subject: Subject, rules: Rules, use: Use, clearances: Sequence[Clearance], now: float) -> Iterator[Check]:
    rule = "approval.final"
    names = rules.said(rule)
    if not names:
        return
    hint, counted = "", tuple[Clearance, ...]()
    outcome: Outcome = "kept"
    if use != "final":
        outcome, words = "not asked", f"it is a {use}"
    elif subject.user in names:
        words = f"submitted by {subject.user}, whose approval counts"
    else:
        by = rules.said("clearance.by.final") or names
        both = tuple(name for name in names if name in by)
        counted, why = _counted("final", (subject.show, subject.sequence, subject.shot), both, clearances, now)
        if both and counted:  # without names, anyone's would count
            words = f"{subject.address} is approved {_given(counted)}"
        else:
            counted, outcome = (), "broken"
            words = f"a final of {subject.address} needs the approval of {_or(names)}{why}"
            record = f"{_or(both)} may record a clearance of the kind final for {subject.address}"
            hint = f"{record}; {_or(names)} may submit it themselves; anyone may submit it as a temp"
    yield Check(
        rule=rule, file=rules.source(rule), outcome=outcome, words=words, about=subject.address, asks=names,
        hint=hint, clearances=counted,
    )  # fmt: skip


def _counted(
    kind: ClearanceKind,
    where: tuple[str, str, str],
    names: Sequence[str],
    clearances: Sequence[Clearance],
    now: float,
) -> tuple[tuple[Clearance, ...], str]:
    """The clearances that count, and in words why the nearest others don't. Without names, anyone's counts."""
    fitting = [one for one in clearances if one.kind == kind and one.covers(*where)]
    known = [one for one in fitting if not names or one.recorded_by in names]
    counted = tuple(one for one in known if one.holds(now))
    if counted or not fitting:
        return counted, ""
    if not known:
        others = _or(tuple(dict.fromkeys(one.recorded_by for one in fitting)))
        return (
            (),
            f": that of {others} doesn't count (clearance.by.{kind})" if kind != "final" else f", not of {others}",
        )
    last = max(known, key=lambda one: one.withdrawn_at or 0.0)
    assert last.withdrawn_at is not None  # it doesn't hold
    return (), f": that of {last.by} was withdrawn on {utc(last.withdrawn_at)[:10]}"


def _budget(subject: Subject, rules: Rules, usage: Usage) -> Iterator[Check]:
    amounts = (
        ("money", usage.money, usage.currency),
        ("machine_hours", usage.machine_hours, "machine-hours"),
        ("gpu_hours", usage.gpu_hours, "GPU-hours"),
    )
    since = {"total": "in all", "month": "this month", "week": "this week", "day": "today"}[rules.period]
    for name, spend, unit in amounts:
        rule = f"budget.{name}"
        most = rules.said(rule)
        if most is None:
            continue
        committed, asked = spend.committed or 0.0, spend.asked or 0.0
        told = f"{subject.show} may spend {_amount(most, unit)} {since}"
        hint = ""
        outcome: Outcome = "kept"
        if spend.spent is None:
            outcome, words = "broken", f"{told}, and what it has spent isn't known"
            hint = "set the farm's prices, or set the budget in machine_hours" if name == "money" else ""
        else:
            left = most - spend.spent - committed
            asks = "an amount that isn't known" if spend.asked is None else _amount(asked, unit)
            words = (
                f"{told}: {_amount(spend.spent, unit)} spent, {_amount(committed, unit)} committed, this asks {asks}"
            )
            if asked > left or (spend.asked is None and left <= 0):
                outcome = "broken"
                hint = f"ask for less, wait for jobs to end or for the next period, or ask whoever keeps {rules.source(rule)}"
        yield Check(
            rule=rule, file=rules.source(rule), outcome=outcome, words=words, about=name,
            asks={"most": most, "period": rules.period, "period_file": rules.source("budget.period"), **asdict(spend)},
            hint=hint,
        )  # fmt: skip


def _given(clearances: Sequence[Clearance]) -> str:
    last = clearances[-1]
    reference = f", {last.reference}" if last.reference else ""
    return f"by {last.by} on {utc(last.given_at)[:10]} (recorded by {last.recorded_by}{reference})"


def _amount(value: float, unit: str) -> str:
    """What is below a hundredth with the digits that it has: a refusal that says 0.00 explains nothing."""
    digits = 2 if value == 0 or value >= 0.01 else 1 - math.floor(math.log10(value))
    return f"{value:,.{digits}f} {unit}".strip()


def _or(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "nobody"

"""What the gate before dispatch is asked, and what it answers: a subject, clearances and amounts in; a decision out.

A decision holds every rule that was looked at, the digests of the files that said it, and each clearance that counted: it
answers for itself months later, without the rules, the queue or the registry. Who decides is `pipeline.policy`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.errors import Fault
from pipeline.rules import ClearanceKind, RuleFile, Use

SCHEMA = "platewright.decision/1"
Outcome = Literal["kept", "broken", "not asked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """A recorded yes of a named person, for a show, one of its sequences or one of its shots. Times are seconds since 1970.

    `by` gave it, a name on paper; `recorded_by` is the name of the token that recorded it, and that alone was checked.
    """

    kind: ClearanceKind
    show: str
    sequence: str = ""
    shot: str = ""
    by: str
    recorded_by: str
    reference: str = ""
    note: str = ""
    given_at: float
    withdrawn_at: float | None = None
    withdrawn_by: str = ""
    id: int = 0

    def covers(self, show: str, sequence: str, shot: str) -> bool:
        """Whether it speaks of this shot. With a shot and no sequence it means a shot that is in none."""
        if self.show != show:
            return False
        return not (self.sequence or self.shot) or (self.sequence == sequence and self.shot in ("", shot))

    def holds(self, now: float) -> bool:
        """Whether it wasn't withdrawn by then."""
        return self.withdrawn_at is None or self.withdrawn_at > now


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedModel:
    """Weights that a job would load, as policy sees them. `licence` empty: not known."""

    name: str
    sha256: str = ""
    licence: str = ""
    state: str = ""
    """A registered model's card state: candidate, approved, retired."""
    registered: bool = False
    """Whether the studio's registry has a card of it."""
    shipped: bool = False
    """Whether they are the task's own: they have no card, and need none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked for. `user` is the name of the token that asks, never a name that a request brought along."""

    studio: str
    show: str
    sequence: str = ""
    shot: str = ""
    task: str
    use: Use | None = None
    user: str
    models: tuple[UsedModel, ...] = ()

    @property
    def address(self) -> str:
        """show/sequence/shot."""
        return address(self.show, self.sequence, self.shot)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingVersion:
    """A version that would be learned from: its name, its shot, and the clearances that the studio has."""

    name: str
    show: str
    sequence: str = ""
    shot: str = ""
    clearances: tuple[Clearance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """One budget's amounts in its period; None where nobody knows.

    `spent`: by what has ended or run so far; `committed`: what running and waiting jobs will still take; `asked`: this one.
    """

    spent: float | None = None
    committed: float | None = None
    asked: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a show has spent since `period_start`, and what this job would add."""

    money: Spend = Spend()
    machine_hours: Spend = Spend()
    gpu_hours: Spend = Spend()
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule that was looked at, of one thing: `about` names it, such as a model or a version."""

    rule: str
    file: str
    outcome: Outcome
    words: str
    about: str = ""
    asks: Any = None
    """The rule's value, as JSON."""
    hint: str = ""
    clearances: tuple[Clearance, ...] = ()
    """Each recorded yes that counted."""

    @property
    def kept(self) -> bool:
        """Whether nothing stands against it."""
        return self.outcome != "broken"

    @property
    def name(self) -> str:
        """`models.licences (acme/dune.toml)`."""
        return f"{self.rule} ({self.file or 'always'})"

    @property
    def fault(self) -> Fault:
        """The refusal of a broken rule."""
        return Fault(f"rule {self.name}", self.words, self.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether it may be, by which rules, and why."""

    subject: Subject
    use: Use
    files: tuple[RuleFile, ...]
    checks: tuple[Check, ...]
    decided_at: float

    @property
    def allowed(self) -> bool:
        """Whether no rule is broken."""
        return all(check.kept for check in self.checks)

    @property
    def words(self) -> str:
        """The decision in a few words."""
        if broken := [check.name for check in self.checks if not check.kept]:
            return f"refused by {', '.join(dict.fromkeys(broken))}"
        if not self.checks:
            return "allowed: no rule asks for anything" if self.files else "allowed: no rules"
        return "allowed: every rule is kept"

    def refusals(self) -> list[Fault]:
        """A fault for each broken rule; none when it is allowed."""
        return [check.fault for check in self.checks if not check.kept]

    def as_json(self) -> dict[str, Any]:
        """The decision as it stands in a version's record: plain JSON values, times in UTC."""
        return {
            "schema": SCHEMA,
            "allowed": self.allowed,
            "words": self.words,
            "use": self.use,
            "decided_at": utc(self.decided_at),
            "subject": {**asdict(self.subject), "models": [asdict(model) for model in self.subject.models]},
            "rule_files": [asdict(file) for file in self.files],
            "checks": [check_json(check) for check in self.checks],
        }


def check_json(check: Check) -> dict[str, Any]:
    """One check as plain JSON values: who cleared it, on what reference, and when."""
    asks = list(check.asks) if isinstance(check.asks, tuple) else check.asks
    cleared = [
        {**asdict(one), "given_at": utc(one.given_at), "withdrawn_at": one.withdrawn_at and utc(one.withdrawn_at)}
        for one in check.clearances
    ]
    return {**asdict(check), "asks": asks, "clearances": cleared}


def address(*parts: str) -> str:
    """show/sequence/shot, without what is empty."""
    return "/".join(part for part in parts if part)


def utc(seconds: float) -> str:
    """A time in words that sort."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

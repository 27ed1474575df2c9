"""The rules of a studio and of its shows, as text says them: which weights, whose clearance, how much.

A rule that no file names asks for nothing. The show's word replaces the studio's key by key. What a job is measured by them
is `pipeline.policy`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import Fault, RuleError

Use = Literal["temp", "final"]
"""What a result is for. A temp is looked at in the cut; a final is delivered."""
ClearanceKind = Literal["inputs", "training", "final"]
"""What a recorded yes allows: to use the shot's plates in a job, to learn from its versions, to deliver it."""
Period = Literal["total", "month", "week", "day"]
Licence = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+\-]*$", max_length=128)]
Name = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$", max_length=128)]
Amount = Annotated[float, Field(strict=True, ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelRules(_Table):
    """Which weights may be used. Licences are SPDX identifiers, or `LicenseRef-…` for what has none, such as the studio's own."""

    licences: tuple[Licence, ...] | None = None
    temp_licences: tuple[Licence, ...] | None = None
    states: tuple[Literal["candidate", "approved", "retired"], ...] | None = None
    unregistered: Literal["never", "temp", "always"] | None = None


class UseRules(_Table):
    """What a job is for when it doesn't say."""

    default: Use | None = None


class ClearanceBy(_Table):
    """Whose recorded yes counts, by kind: names of tokens. An empty list: anyone's who may record one."""

    inputs: tuple[Name, ...] | None = None
    training: tuple[Name, ...] | None = None
    final: tuple[Name, ...] | None = None


class ClearanceRules(_Table):
    """Which kinds of clearance a job of each use needs, and a version that is learned from."""

    final: tuple[ClearanceKind, ...] | None = None
    temp: tuple[ClearanceKind, ...] | None = None
    training: tuple[ClearanceKind, ...] | None = None
    by: ClearanceBy = ClearanceBy()


class ApprovalRules(_Table):
    """Names of tokens: who approves a final job, and who promotes a model. An empty list: anyone with the right."""

    final: tuple[Name, ...] | None = None
    promote: tuple[Name, ...] | None = None


class BudgetRules(_Table):
    """The most that a show may spend in a period, in the farm's currency and in hours."""

    money: Amount | None = None
    machine_hours: Amount | None = None
    gpu_hours: Amount | None = None
    period: Period | None = None


class RuleSet(_Table):
    """One file's words; None where it doesn't say."""

    models: ModelRules = ModelRules()
    use: UseRules = UseRules()
    clearance: ClearanceRules = ClearanceRules()
    approval: ApprovalRules = ApprovalRules()
    budget: BudgetRules = BudgetRules()


@dataclass(frozen=True, slots=True)
class RuleFile:
    """Which file said it: its name inside the rules' folder, `acme/dune.toml`, and the digest of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a show: every rule that was said, by its key such as `models.licences`, and the file that said it."""

    values: Mapping[str, Any]
    sources: Mapping[str, RuleFile]
    files: tuple[RuleFile, ...]

    def said(self, key: str) -> Any:
        """A rule's value; None where no file names it."""
        return self.values.get(key)

    def source(self, key: str) -> str:
        """The name of the file whose word holds; empty where none names it."""
        return self.sources[key].name if key in self.sources else ""

    @property
    def has_budget(self) -> bool:
        """Whether what was spent has to be known for a decision."""
        return any(key.startswith("budget.") and key != "budget.period" for key in self.values)

    @property
    def period(self) -> Period:
        """What a budget's amounts are for: all time, unless a file says otherwise."""
        period: Period = self.values.get("budget.period") or "total"
        return period


NO_RULES = Rules({}, {}, ())


def merged(files: Sequence[tuple[RuleFile, RuleSet]]) -> Rules:
    """The rules of several files; what a later file says replaces, key by key, what an earlier one did.

    Raises: RuleError (`models.temp_licences` adds to `models.licences`, which no file names).
    """
    values: dict[str, Any] = {}
    sources: dict[str, RuleFile] = {}
    for file, said in files:
        for key, value in spoken(said):
            values[key], sources[key] = value, file
    if "models.temp_licences" in values and "models.licences" not in values:
        where = f"{sources['models.temp_licences'].name} › models.temp_licences"
        message = "adds to models.licences, which no file names: every licence would be allowed"
        raise RuleError([Fault(where, message, "name the licences of finals too, as models.licences")])
    return Rules({key: values[key] for key in _keys() if key in values}, sources, tuple(file for file, _ in files))


def _keys(table: type[BaseModel] | None = None, before: str = "") -> Iterator[str]:
    """Every rule's dotted key, in the order of the declaration."""
    for name, field in (table or RuleSet).model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def spoken(table: BaseModel, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every rule that a table names, with its dotted key, in the order of the declaration."""
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from spoken(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", value


def parse_rules(data: bytes, name: str) -> RuleSet:
    """A rule file's words. Raises: RuleError with every fault: not text, not TOML, an unknown key, a value of another kind."""
    try:
        table = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RuleError([Fault(name, f"isn't text in UTF-8 (at line {line})", "save it as UTF-8")]) from error
    except tomllib.TOMLDecodeError as error:
        raise RuleError([Fault(name, f"isn't TOML: {error}", "see docs/rules.md for a whole example")]) from error
    except RecursionError as error:
        raise RuleError([Fault(name, "is nested too deeply", "see docs/rules.md for a whole example")]) from error
    try:
        return RuleSet.model_validate(table)
    except ValidationError as error:
        raise RuleError([_fault(details, name) for details in error.errors()]) from error


def _fault(details: ErrorDetails, name: str) -> Fault:
    parts = details["loc"]
    key = ".".join(part if isinstance(part, str) else f"[{part + 1}]" for part in parts).replace(".[", "[")
    where = f"{name} › {key}"
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        known = list(_table_at([part for part in parts[:-1] if isinstance(part, str)]).model_fields)
        homes = [
            table for table in RuleSet.model_fields if len(parts) == 1 and parts[0] in _table_at([table]).model_fields
        ]
        hint = f"it belongs into [{homes[0]}]" if homes else _meant(str(parts[-1]), known)
        return Fault(where, "is no rule", hint)
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", details.get("ctx", {}).get("expected", ""))
        return Fault(where, f"is {_shown(given)}, which isn't known", _meant(str(given), known))
    words = _WORDS.get(kind) or (_NAME_WORDS if kind.startswith("string_") else None)
    if kind == "string_pattern_mismatch" and "licences" in key:
        words = ("isn't a licence's identifier", "write its SPDX identifier, such as Apache-2.0, or LicenseRef-…")
    if words is None:
        return Fault(where, f"is {_shown(given)}: {details['msg']}", "see docs/rules.md")
    return Fault(where, f"is {_shown(given)}, which {words[0]}", words[1])


_NAME_WORDS = ("can't be a name", "write up to 128 characters without blanks at its ends")
_WORDS = {
    "string_type": ("isn't a text", 'write it in quotes: "…"'),
    "tuple_type": ("isn't a list", 'write a list, even of one: ["…"]'),
    "model_type": ("isn't a table", "write it as a [table] of its own; see docs/rules.md"),
    "float_type": ("isn't a number", "write a number without quotes, such as 500.0"),
    "finite_number": ("isn't a finite number", "leave the rule out for no bound"),
    "greater_than_equal": ("is below 0", "write 0 for nothing, or leave the rule out for no bound"),
}


def _table_at(path: Sequence[str]) -> type[BaseModel]:
    table: type[BaseModel] = RuleSet
    for part in path:
        kind = table.model_fields[part].annotation
        assert isinstance(kind, type) and issubclass(kind, BaseModel)  # only tables hold keys
        table = kind
    return table


def _meant(given: str, known: Sequence[str]) -> str:
    """What was probably meant, or all that is known."""
    near = difflib.get_close_matches(given.lower(), known, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"

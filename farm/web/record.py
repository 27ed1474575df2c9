"""What the pages show of a version's record: what made it, which rules were looked at, whether it is signed. As `views`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farm.records import Cost
from farm.web.spending import hours, money
from farm.web.views import Fact, frames_text
from pipeline.errors import TaskError
from pipeline.jobs.spec import JobSpec, TakeSpec
from pipeline.parameters import describe
from pipeline.tasks.registry import task


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One rule that was looked at, in words."""

    state: str
    """Of the dot: done, failed, or skipped where the rule had nothing to say."""
    outcome: str
    words: str
    rule: str
    file: str
    hint: str
    cleared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyView:
    """What the rules decided when a job was handed in."""

    words: str
    allowed: bool
    use: str
    decided_at: str
    files: tuple[tuple[str, str], ...]
    """(name, sha256) of each rule file."""
    checks: tuple[CheckLine, ...]


_DOTS = {"kept": "done", "broken": "failed"}


def policy_view(policy: Mapping[str, Any]) -> PolicyView | None:
    """A decision as it is kept with a job; None where none was."""
    if not policy:
        return None
    return PolicyView(
        words=str(policy.get("words", "")),
        allowed=bool(policy.get("allowed", True)),
        use=str(policy.get("use", "")),
        decided_at=str(policy.get("decided_at", "")),
        files=tuple((str(file["name"]), str(file["sha256"])) for file in policy.get("rule_files", ())),
        checks=tuple(
            CheckLine(
                state=_DOTS.get(check["outcome"], "skipped"),
                outcome=str(check["outcome"]),
                words=str(check["words"]),
                rule=str(check["rule"]),
                file=str(check["file"]),
                hint=str(check.get("hint", "")),
                cleared=tuple(_cleared(one) for one in check.get("clearances", ())),
            )
            for check in policy.get("checks", ())
        ),
    )


def _cleared(one: Mapping[str, Any]) -> str:
    reference = f", {one['reference']}" if one.get("reference") else ""
    return f"{one.get('by', '?')}{reference}, recorded by {one.get('recorded_by', '?')}, {str(one.get('given_at', ''))[:10]}"


def cost_facts(cost: Cost, estimate: Mapping[str, Any] | None, error: float | None) -> tuple[Fact, ...]:
    """What a job has cost by now, and what was said before."""
    facts = [Fact("Machine time", hours(cost.machine_s))]
    if cost.gpu_s:
        facts.append(Fact("GPU time", hours(cost.gpu_s)))
    facts.append(Fact("Money", money(cost.money, cost.currency) if cost.money else "no price is set"))
    if cost.lost_s:
        facts.append(Fact("Came to nothing", hours(cost.lost_s)))
    if estimate is None:
        return (*facts, Fact("Estimate", "none: nothing to go by"))
    said = f"{hours(estimate['machine_s'])} ({hours(estimate['low'])} to {hours(estimate['high'])})"
    if estimate.get("money"):
        said += f", {money(estimate['money'], str(estimate.get('currency', '')))}"
    if estimate.get("upper"):
        said += "; less where earlier work can be taken over"
    facts.append(Fact("Estimate", said))
    if error is not None:
        facts.append(Fact("Off by", f"{100 * error:+.0f} %"))
    return tuple(facts)


@dataclass(frozen=True, slots=True)
class Input:
    """What went in: a name, where it lay, and the hash of each file."""

    label: str
    path: str
    hashes: tuple[tuple[str, str], ...]
    note: str = ""


def inputs(spec: JobSpec, take: TakeSpec) -> tuple[Input, ...]:
    """The plate, the keys, the cut, and the files that parameters lead to."""
    frames = tuple((str(frame), digest) for frame, digest in sorted(spec.input_hashes.items()))
    found = [Input("Plate", spec.plate.pattern, frames, frames_text(spec.frames))]
    found += [
        Input(
            f"Key {key.frame}" + (f" of {key.object}" if len(spec.objects()) > 1 else ""),
            key.path,
            (("", key.hash),) if key.hash else (),
        )
        for key in spec.keys
    ]
    if spec.cut_path:
        found.append(Input("Cut", spec.cut_path, (("", spec.cut_sha256),) if spec.cut_sha256 else ()))
    found += [
        Input(name.replace("_", " ").capitalize(), one.path, tuple(one.digests.items()))
        for name, one in take.inputs.items()
    ]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter of a recall: how it is asked for. `kind`: bool, choice, number, text; `fixed` can't be changed here."""

    name: str
    label: str
    kind: str
    value: str
    help: str
    unit: str
    choices: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    step: str = ""
    fixed: bool = False
    optional: bool = False


_NUMBERS = {"int": "1", "seed": "1", "float": "any"}


def recall_fields(task_name: str, parameters: Mapping[str, Any]) -> tuple[Field, ...]:
    """The parameters of a recalled request as a form; those that have no single value stay as they are."""
    try:
        entries = {e["name"]: e for e in describe(task(task_name).parameters)["parameters"]}
    except TaskError:
        entries = {}
    found = []
    for name, value in parameters.items():
        entry = entries.get(name, {"kind": "text"})
        kind = str(entry["kind"])
        single = value is None or isinstance(value, str | int | float)
        shape = "bool" if kind == "bool" else "choice" if kind == "choice" else "number" if kind in _NUMBERS else "text"
        if shape == "text" and kind not in ("text", "reference", "plate", "mask", "audio", "model"):
            single = False
        found.append(
            Field(
                name=name,
                label=str(entry.get("label", name)),
                kind=shape,
                value=_field_text(value) if single else _outline(value),
                help=str(entry.get("help", "")),
                unit=str(entry.get("unit", "")),
                choices=tuple(map(str, entry.get("choices", ()))),
                low=str(entry.get("min", "")),
                high=str(entry.get("max", "")),
                step=_NUMBERS.get(kind, ""),
                fixed=not single or name not in entries,
                optional=bool(entry.get("optional")),
            )
        )
    return tuple(found)


def _field_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _outline(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = value.get("keys")
        return f"a curve of {len(keys)} keys" if isinstance(keys, Mapping) else f"{len(value)} values"
    return f"{len(value)} values" if isinstance(value, list | tuple) else "–" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Signed:
    """How many of a version's frames have a manifest beside them."""

    frames: int
    manifests: int

    @property
    def words(self) -> str:
        """In a few words."""
        if not self.manifests:
            return "not signed"
        return (
            "signed, every frame"
            if self.manifests >= self.frames
            else f"{self.manifests} of {self.frames} frames signed"
        )

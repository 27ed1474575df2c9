"""Which versions a training learns from, and by which shots it is judged: what the store says, and every fault in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from farm.cards import CardView, get_card
from farm.heldout import Address
from farm.queries import get_version, list_versions, spec_text
from farm.records import VersionFilter, VersionView
from farm.reviews import approved
from farm.store import Transaction
from pipeline.errors import Fault, NotFoundError, PipelineError, fault_of
from pipeline.jobs.spec import JobSpec
from pipeline.jobs.training import TrainingRequest, read_spec
from pipeline.tasks.definition import TrainingDefinition

_SHARE = 5
"""Of so many shots one is set aside, where nobody says which."""


def specs_of(tx: Transaction, studio: str, versions: Iterable[VersionView]) -> dict[int, JobSpec]:
    """Version → the job that made it: its plate, and the first frames of other shots inside it."""
    specs = {version.id: read_spec(spec_text(tx, studio, version.job_id)) for version in versions}
    return {version: spec for version, spec in specs.items() if isinstance(spec, JobSpec)}


def base_of(tx: Transaction, card: CardView) -> CardView | None:
    """The card that one was made from, None where that is the task's own weights."""
    return None if card.base_model is None else get_card(tx, card.studio, card.base_model)


def asked_versions(
    tx: Transaction, request: TrainingRequest, studio: str, training: TrainingDefinition, faults: list[Fault]
) -> tuple[VersionView, ...]:
    """The versions to learn from: those that are named, each of them approved, or else all that are approved."""
    if not request.versions:
        return approved(tx, studio, products=training.products, show=request.show)
    named: dict[int, VersionView] = {}
    for text in request.versions:
        try:
            version = _version(tx, studio, text)
        except PipelineError as error:
            faults.append(fault_of(error, f"version {text}"))
            continue
        if version.product not in training.products:
            products = " or ".join(training.products)
            faults.append(
                Fault(f"version {text}", f"is of {version.product}, not of {products}", "name versions of these")
            )
        named[version.id] = version
    right = {v.id for v in approved(tx, studio, products=training.products, ids=named)}
    newest = {(v.show, v.sequence, v.shot, v.product) for v in named.values() if v.id in right}
    for version in named.values():
        place = (version.show, version.sequence, version.shot, version.product)
        if version.id not in right and version.product in training.products:
            why = "an older version of a shot that is named twice" if place in newest else "not approved"
            hint = "name one version a shot" if place in newest else f"plates approve {version.name}"
            faults.append(Fault(f"version {version.name}", f"is {why}", hint))
    return tuple(version for version in named.values() if version.id in right)


def _version(tx: Transaction, studio: str, text: str) -> VersionView:
    """A published version by its number or name. Raises: NotFoundError."""
    if text.isascii() and text.isdigit() and len(text) < 18:
        return get_version(tx, studio, int(text))
    # PostgreSQL can't be asked for a NUL.
    found = () if "\x00" in text else list_versions(tx, studio, VersionFilter(name=text), limit=2)
    if len(found) != 1:
        words = "is called" if not found else "alone is called"
        raise NotFoundError(f"no version {words} {text!r}", "give its number; `plates versions` lists them")
    return found[0]


def judges(
    tx: Transaction, studio: str, training: TrainingDefinition, shots: Iterable[Address], faults: list[Fault]
) -> tuple[VersionView, ...]:
    """The approved version of each held-out shot; of several products the training's first counts."""
    by_shot: dict[Address, VersionView] = {}
    known = approved(tx, studio, products=training.products)
    for version in sorted(known, key=lambda v: training.products.index(v.product), reverse=True):
        by_shot[address_of(version)] = version
    found: list[VersionView] = []
    for shot in sorted(set(shots)):
        if shot in by_shot:
            found.append(by_shot[shot])
        else:
            message = f"{text_of(shot)} is held out and has no approved version to judge by"
            faults.append(Fault("hold_out", message, "approve a version of it: plates approve VERSION"))
    return tuple(found)


def drawn(shots: set[Address]) -> frozenset[Address]:
    """One shot in five, at least one, by their names alone: whoever asks gets the same."""
    order = sorted(shots, key=lambda shot: hashlib.sha256("/".join(shot).encode()).hexdigest())
    return frozenset(order[: max(1, round(len(order) / _SHARE))] if len(order) > 1 else ())


def check_unlearned(tx: Transaction, card: CardView, shots: Iterable[Address], where: str, faults: list[Fault]) -> None:
    """A model that learned from a held-out shot, itself or what it was made from, can't be judged by it."""
    texts = {text_of(shot) for shot in shots}
    below: CardView | None = card
    while below is not None:
        learned = {str(one["shot"]) for one in below.lineage.get("versions", ())}
        for shot in sorted(learned & texts):
            message = f"{below.label} learned from {shot}, which is held out"
            faults.append(Fault(where, message, "start from a model that never saw it"))
        below = base_of(tx, below)


def consent_to(version: VersionView, decision: Mapping[str, Any]) -> dict[str, Any]:
    """The newest yes to learning from a version, of those that a decision counted; nothing where it asked for none."""
    about = f"{version.name} of {text_of(address_of(version))}"
    for check in decision.get("checks", ()):
        if check["rule"] == "clearance.training" and check["about"] == about and check["asks"]["kind"] == "training":
            return dict(check["clearances"][-1]) if check["clearances"] else {}
    return {}


def address_of(version: VersionView) -> Address:
    """Where a version belongs."""
    return version.show, version.sequence, version.shot


def text_of(shot: Address) -> str:
    """`show/sequence/shot`, the sequence left out where there is none."""
    return "/".join(part for part in shot if part)


def parse_address(text: str, faults: list[Fault]) -> Address | None:
    """`show/sequence/shot` or `show/shot`."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        faults.append(Fault("hold_out", f"{text!r} is no shot", "write show/sequence/shot, or show/shot"))
        return None
    return (parts[0], parts[1] if len(parts) == 3 else "", parts[-1])

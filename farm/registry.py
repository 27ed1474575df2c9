"""Weights that come from elsewhere get a card; and a folder of weights goes out as one stream."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from farm.cards import CardView, NewCard, add_card, find_card, trained_elsewhere
from farm.dispatcher import Dispatcher
from farm.inspector import Inspector
from farm.rules import read_rules
from farm.settings import FarmSettings
from farm.tokens import Identity
from farm.turn import Turn
from farm.wire import AddModelBody
from pipeline import policy
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.models.facts import CONTROLNET, LORA
from pipeline.tasks.registry import task, tasks

_ABSENT = "check the path, and that this machine sees it"


def add_model(
    body: AddModelBody,
    *,
    studio: str,
    user: str,
    settings: FarmSettings,
    dispatcher: Dispatcher,
    inspector: Inspector,
) -> Callable[[Turn], CardView]:
    """Look at weights on a path, and give back the operation that keeps their card.

    Raises: SubmissionRefused (the task, the path, the weights, the base), with every fault.
    """
    try:
        definition = task(body.task)
    except PipelineError as error:
        raise SubmissionRefused([fault_of(error, "task")]) from error
    base: CardView | None = None
    try:
        if body.base:
            base = dispatcher.read(lambda turn: find_card(turn.tx, studio, body.base, task=body.task))
    except PipelineError as error:
        raise SubmissionRefused([fault_of(error, "base")]) from error
    try:
        found = inspector.call(
            "model",
            {
                "path": body.path,
                "families": list(definition.families),
                "roots": [str(root) for root in settings.roots],
                "base": "" if base is None else base.path,
                "sha256": body.sha256,
            },
        )
    except PipelineError as error:
        raise SubmissionRefused([fault_of(error, "path")]) from error
    if base is not None and found["family"] not in (LORA, CONTROLNET):
        raise SubmissionRefused([Fault("base", f"{found['words']} has no base beside it", "leave --base out")])
    new = NewCard(
        studio=studio,
        task=body.task,
        name=body.name,
        family=found["family"],
        sha256=found["sha256"],
        path=found["path"],
        base=found["base"] if base is None else base.label,
        base_model=None if base is None else base.id,
        licence=body.licence,
        lineage={"origin": "added", "source": body.source},
        facts=found["details"],
        note=body.note,
        created_by=user,
    )

    def keep(turn: Turn) -> CardView:
        if trained_elsewhere(turn.tx, studio, new.sha256):
            # As if nothing lay there: another studio's own weights aren't there for this one.
            fault = Fault("path", f"there are no weights at {found['path']}", _ABSENT)
            raise SubmissionRefused([fault])
        return add_card(turn, new, tasks=[known.name for known in tasks()])

    return keep


def may_promote(who: Identity, settings: FarmSettings) -> None:
    """Raises: SubmissionRefused when the studio's rules name others, RuleError (a rule file)."""
    check = policy.may_promote(who.name, read_rules(settings.rules, who.studio))
    if not check.kept:
        raise SubmissionRefused([check.fault])


def exported(folder: Path) -> Iterator[bytes]:
    """A folder as a tar, a piece at a time: its files by their names, whoever owns them here."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()

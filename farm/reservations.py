"""Version numbers: reserved with the job, confirmed by its publish, given back when it is cancelled."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Executable, bindparam, func, insert, literal_column, select, update

from farm.events import Draft, EventKind
from farm.moves import in_states
from farm.records import VersionView
from farm.states import VERSION_MOVES, VersionState, check_move
from farm.store import Transaction
from farm.tables import VERSION
from pipeline.naming import FolderTemplate, version_of
from pipeline.shot import Shot
from pipeline.version import Version

_HIGHEST = select(func.max(VERSION.c.number)).where(
    VERSION.c.studio == bindparam("of_studio"),
    VERSION.c.show == bindparam("of_show"),
    VERSION.c.sequence == bindparam("of_sequence"),
    VERSION.c.shot == bindparam("of_shot"),
    VERSION.c.product == bindparam("of_product"),
    VERSION.c.state != literal_column(f"'{VersionState.RELEASED}'"),
)
_NEW = insert(VERSION)


def _version_move(to: VersionState, **values: Any) -> Executable:
    check_move(VERSION_MOVES, VersionState.RESERVED, to, "a version")
    return (
        update(VERSION)
        .where(
            VERSION.c.job == bindparam("of_job"),
            VERSION.c.take == bindparam("of_take"),
            in_states(VERSION.c.state, {VersionState.RESERVED}),
        )
        .values(state=literal_column(f"'{to}'"), **values)
        .returning(VERSION.c.studio, VERSION.c.id, VERSION.c.name, VERSION.c.folder)
    )


_PUBLISH = _version_move(
    VersionState.PUBLISHED,
    published_at=bindparam("at"),
    frames=bindparam("of_frames"),
    layers=bindparam("of_layers"),
    colorspace=bindparam("of_colorspace"),
    report=bindparam("of_report"),
)
_GIVE_BACK = {to: _version_move(to) for to in (VersionState.RELEASED, VersionState.WITHDRAWN)}


def reserve(
    tx: Transaction,
    shot: Shot,
    product: str,
    *,
    job: int,
    takes: Collection[int],
    root: Path,
    template: FolderTemplate,
    taken_on_disk: Collection[int],
    now: float,
) -> None:
    """Reserve the next number for each take: above every number of the product that is kept here or lies on disk.

    Raises: TemplateError beyond v9999.
    """
    where = {
        "of_studio": shot.studio,
        "of_show": shot.show,
        "of_sequence": shot.sequence,
        "of_shot": shot.shot,
        "of_product": product,
    }
    highest = tx.first(_HIGHEST, where)
    number = max([(highest[0] if highest else 0) or 0, *taken_on_disk])
    for take in takes:
        number += 1
        version = version_of(shot, product, number, root, template)
        tx.execute(
            _NEW,
            {
                "studio": shot.studio,
                "show": shot.show,
                "sequence": shot.sequence,
                "shot": shot.shot,
                "product": product,
                "number": number,
                "job": job,
                "take": take,
                "name": version.name,
                "folder": str(version.folder),
                "state": VersionState.RESERVED,
                "frames": "",
                "layers": "[]",
                "colorspace": "",
                "report": "{}",
                "created_at": now,
            },
        )


def version_value(view: VersionView) -> Version:
    """A kept version as the domain knows it."""
    shot = Shot(show=view.show, sequence=view.sequence, shot=view.shot, studio=view.studio)
    return Version(shot, view.product, view.number, view.name, Path(view.folder))


def record_published(tx: Transaction, *, job: int, take: int, result: Mapping[str, Any], now: float) -> None:
    """Confirm a version with what its publish found: `version` (its frames, layers, colour space) and `report`.

    A second confirmation changes nothing.
    """
    facts = result.get("version", {})
    row = tx.first(
        _PUBLISH,
        {
            "of_job": job,
            "of_take": take,
            "at": now,
            "of_frames": str(facts.get("frames", "")),
            "of_layers": json.dumps(facts.get("layers", [])),
            "of_colorspace": str(facts.get("colorspace", "")),
            "of_report": json.dumps(result.get("report", {})),
        },
    )
    if row is not None:
        _tell(tx, row, job, VersionState.PUBLISHED)


def give_number_back(tx: Transaction, *, job: int, take: int, publish_began: bool) -> None:
    """Let go of a reserved number. It is free again, unless a worker may yet put its folder in place."""
    to = VersionState.WITHDRAWN if publish_began else VersionState.RELEASED
    row = tx.first(_GIVE_BACK[to], {"of_job": job, "of_take": take})
    if row is not None:
        _tell(tx, row, job, to)


def _tell(tx: Transaction, row: Any, job: int, state: VersionState) -> None:
    data = {"version": row.id, "name": row.name, "folder": row.folder, "state": state}
    tx.tell(Draft(EventKind.VERSION, row.studio, job, data))

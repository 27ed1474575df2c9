"""The inspector's child: parses timelines, decodes plates and keys, within limits on its memory. Started by `farm/inspector.py`."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farm.child import ParentLink
from pipeline import errors
from pipeline.edit.otio_in import contexts_json
from pipeline.errors import PipelineError
from pipeline.intake import KnownModels, look_at
from pipeline.jobs.spec import JobRequest
from pipeline.jobs.training import AskedLesson
from pipeline.lessons import check_model, look_at_lessons, look_at_model
from pipeline.media.sheet import SheetRow, write_sheet

MEMORY_BYTES = 6 << 30
"""Address space: room for a few 8K frames in flight, not for a bomb."""


_BLAMED = {"edit": "EditError", "model": "ModelError", "check_model": "ModelError"}
"""What a parser's own fault is told as; of a plate where nothing else is said."""


def _serve() -> None:
    """The child's main loop."""
    link = ParentLink()
    _limit_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link.start()

    def edit(path: str, clip: str | None, handles: int, rate: str | None = None) -> Any:
        return contexts_json(Path(path), clip=clip, handles=handles, rate=rate)

    def intake(
        request: dict[str, Any], roots: list[str], publish_root: str, known: dict[str, Any] | None = None
    ) -> Any:
        facts = look_at(
            JobRequest.model_validate(request),
            roots=[Path(r) for r in roots],
            publish_root=Path(publish_root),
            known=KnownModels.model_validate(known or {}),
        )
        return facts.model_dump(mode="json")

    def sheet(path: str, labels: list[str], rows: list[dict[str, Any]]) -> str:
        made = [SheetRow(row["title"], tuple(None if p is None else Path(p) for p in row["pictures"])) for row in rows]
        write_sheet(Path(path), made, labels)
        return path

    def lessons(asked: list[dict[str, Any]]) -> Any:
        return [one.model_dump(mode="json") for one in look_at_lessons([AskedLesson.model_validate(a) for a in asked])]

    def model(path: str, families: list[str], roots: list[str], base: str = "", sha256: str = "") -> Any:
        return look_at_model(path, families=families, roots=[Path(r) for r in roots], base=base, sha256=sha256)

    calls: dict[str, Callable[..., Any]] = {
        "edit": edit,
        "intake": intake,
        "sheet": sheet,
        "lessons": lessons,
        "model": model,
        "check_model": check_model,
    }
    while True:
        message = link.messages.get()
        blamed = _BLAMED.get(message["call"], "PlateError")
        try:
            link.send({"result": calls[message["call"]](**message["arguments"])})
        except PipelineError as error:
            name = type(error).__name__
            known = (
                name
                if hasattr(errors, name)
                else next(c.__name__ for c in type(error).__mro__ if hasattr(errors, c.__name__))
            )
            link.send({"error": known, "message": error.message, "hint": error.hint})
        except MemoryError:
            link.send({"error": blamed, "message": "the files ask for more memory than a submission may", "hint": ""})
        except Exception as error:  # a parser's own bug must not look like a hang
            print(f"inspector: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - stderr is this child's log
            link.send({"error": blamed, "message": f"unreadable: {type(error).__name__}: {error}", "hint": ""})


def _limit_memory() -> None:
    """Ours, or the machine's where that is lower."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    _serve()

"""Where work belongs: studio, show, sequence, shot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import PipelineError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]*")


class ShotNameError(PipelineError, ValueError):
    """A name that file systems, hosts or templates can't all carry."""


def check_name(name: str, what: str) -> str:
    """Return `name` when it is safe in paths and file names, where `_` parts the fields.

    Raises: ShotNameError.
    """
    if len(name) > 64 or not _NAME.fullmatch(name) or ".." in name:
        raise ShotNameError(
            f"{what} {name!r} can't be used in file names",
            "use letters, digits, '-' and '.', up to 64, starting with a letter or digit",
        )
    return name


def safe_name(text: str, fallback: str = "shot") -> str:
    """The nearest allowed name to any text, such as a clip's name in a timeline."""
    name = re.sub(r"[^A-Za-z0-9.\-]+", "-", text)
    name = re.sub(r"\.\.+", ".", name).strip("-.")[:64].rstrip("-.")
    return name or fallback


@dataclass(frozen=True, slots=True)
class Shot:
    """A production address. `sequence` may be empty: not every show has them. A studio is a tenant."""

    show: str
    shot: str
    sequence: str = ""
    studio: str = "local"

    def __post_init__(self) -> None:
        check_name(self.studio, "studio")
        check_name(self.show, "show")
        check_name(self.shot, "shot")
        if self.sequence:
            check_name(self.sequence, "sequence")

    def __str__(self) -> str:
        return "/".join(part for part in (self.show, self.sequence, self.shot) if part)

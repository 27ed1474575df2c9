"""Path templates of published work: they format and parse, and can't escape their root."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import PipelineError
from pipeline.shot import Shot, check_name
from pipeline.version import Version

_FIELDS = {"show", "sequence", "shot", "product", "version"}
_NAME_FIELD = r"[A-Za-z0-9][A-Za-z0-9.\-]*"
DEFAULT_FOLDER = "{show}/{sequence}/{shot}/{product}/{version}"


class TemplateError(PipelineError, ValueError):
    """A path template that can't be formatted and read back."""


@dataclass(frozen=True, slots=True)
class FolderTemplate:
    """A version's folder under the publish root, such as `{show}/{sequence}/{shot}/{product}/{version}`.

    A folder whose only field is an empty sequence is left out. Raises: TemplateError on construction when a
    field is unknown, `{product}` or `{version}` or `{shot}` or `{show}` is missing, or the path could leave the root.
    """

    text: str = DEFAULT_FOLDER

    def __post_init__(self) -> None:
        fields = [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]
        if unknown := set(fields) - _FIELDS:
            raise TemplateError(
                f"template {self.text!r} has unknown fields {sorted(unknown)}", f"known: {sorted(_FIELDS)}"
            )
        if missing := _FIELDS - {"sequence"} - set(fields):
            raise TemplateError(
                f"template {self.text!r} lacks {sorted(missing)}", "two shots or versions would share a folder"
            )
        if len(fields) != len(set(fields)):
            raise TemplateError(f"template {self.text!r} names a field twice")
        path = PurePosixPath(self.text)
        if path.is_absolute() or ".." in path.parts or "\\" in self.text:
            raise TemplateError(
                f"template {self.text!r} could leave the publish root", "keep it relative, without '..'"
            )

    def format(self, shot: Shot, product: str, number: int) -> PurePosixPath:
        """The folder of one version, relative to the publish root."""
        values = {
            "show": shot.show,
            "sequence": shot.sequence,
            "shot": shot.shot,
            "product": check_name(product, "product"),
            "version": version_label(number),
        }
        parts = (part.format(**values) for part in PurePosixPath(self.text).parts)
        return PurePosixPath(*(part for part in parts if part))

    def parse(self, folder: str) -> dict[str, str] | None:
        """The fields of a folder that this template wrote, or None."""
        for with_sequence in (True, False):
            parts = []
            for part in PurePosixPath(self.text).parts:
                if part == "{sequence}" and not with_sequence:
                    continue
                literal_and_field = string.Formatter().parse(part)
                expression = ""
                for literal, field, _, _ in literal_and_field:
                    expression += re.escape(literal)
                    if field == "version":
                        expression += r"(?P<version>v\d{3,4})"
                    elif field == "sequence" and not with_sequence:
                        expression += "(?P<sequence>)"
                    elif field is not None:
                        expression += f"(?P<{field}>{_NAME_FIELD})"
                parts.append(expression)
            if match := re.fullmatch("/".join(parts), folder):
                return {"sequence": "", **match.groupdict()}
        return None


def version_label(number: int) -> str:
    """`v001`; four digits from 1000 on. Raises: TemplateError outside 1…9999."""
    if not 1 <= number <= 9999:
        raise TemplateError(f"version {number} is outside 1 to 9999")
    return f"v{number:03d}"


def version_of(shot: Shot, product: str, number: int, root: Path, template: FolderTemplate) -> Version:
    """The version value: its name `<show>_<sequence>_<shot>_<product>_v001` and its folder under `root`."""
    fields = (shot.show, shot.sequence, shot.shot, check_name(product, "product"), version_label(number))
    name = "_".join(field for field in fields if field)
    return Version(shot, product, number, name, root / template.format(shot, product, number))

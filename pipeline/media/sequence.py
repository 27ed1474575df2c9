"""Find the frames of a sequence on disk by name alone.

Standard library only: the dispatcher and the watch folder list plates too, and start without NumPy.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PlateError
from pipeline.frames import FrameRange
from pipeline.plate import FramePattern

IMAGE_EXTENSIONS = ("exr", "dpx", "tif", "tiff", "png", "jpg", "jpeg")
"""What counts as a frame when a whole folder is given."""

# The frame number is the last run of digits before the extension. A minus sign belongs to it only after a separator:
# `sh010.-0002.exr` is frame -2, `sh010-0002.exr` is frame 2 of `sh010-`.
_NUMBER = re.compile(r"((?:(?<=[._])-|^-)?[0-9]+)([^0-9]*\.[A-Za-z][A-Za-z0-9]*)\Z")
_FIELD = re.compile(r"#|%0?\d*d")
_NAMED_AT_MOST = 5


def find_sequence(text: str) -> tuple[FramePattern, FrameRange]:
    """The sequence that a person means, and which of its frames are on disk.

    `text` is `name.####.exr`, `name.%04d.exr`, a folder that holds exactly one sequence, or one file of the sequence.
    Files beside them that are no frames (dotfiles, `.part`, sidecars) are passed over. Padding may roll over:
    9999 is followed by 10000. 5,000 names take about 10 ms.

    Raises: PlateError (nothing there, several sequences in a folder, a frame number twice, mixed padding).
    """
    path = Path(text)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and _FIELD.search(path.name):
        pattern = FramePattern.parse(text)
        if pattern is not None:
            return pattern, _frames_of(pattern, _names(pattern.folder))
    return _of_file(path)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        raise PlateError(
            f"folder {folder} doesn't exist", "check the path, and that the share is mounted here"
        ) from None
    except OSError as error:
        raise PlateError(f"folder {folder} can't be listed: {error.strerror}", "check its permissions") from error


def _parse(name: str) -> tuple[str, str, str] | None:
    """(head, number, tail) of a file name; None without a frame number."""
    match = _NUMBER.search(name)
    return None if match is None else (name[: match.start()], match[1], match[2])


def frame_of(name: str) -> int | None:
    """The frame number in a file's name; None without one."""
    parsed = _parse(name)
    return None if parsed is None else int(parsed[1])


def _of_file(path: Path) -> tuple[FramePattern, FrameRange]:
    parsed = _parse(path.name)
    if parsed is None:
        if not path.exists():
            raise PlateError(f"{path} doesn't exist", "give name.####.exr, a folder, or one file of the sequence")
        raise PlateError(f"{path} has no frame number", "name frames like name.1001.exr")
    names = _names(path.parent)
    if path.name not in names:
        raise PlateError(f"{path} doesn't exist", _nearby(path.parent, names))
    head, _, tail = parsed
    group = [
        (p[1], name) for name in names if name.endswith(tail) and (p := _parse(name)) and (p[0], p[2]) == (head, tail)
    ]
    return _from_group(path.parent, head, tail, group)


def _in_folder(folder: Path) -> tuple[FramePattern, FrameRange]:
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for name in _names(folder):
        if name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS and (parsed := _parse(name)):
            groups[parsed[0], parsed[2]].append((parsed[1], name))
    if not groups:
        raise PlateError(f"no frames in folder {folder}", f"frames are numbered images: {', '.join(IMAGE_EXTENSIONS)}")
    if len(groups) > 1:
        found = [f"{head}{'#' * _padding(n for n, _ in group)}{tail}" for (head, tail), group in sorted(groups.items())]
        shown = ", ".join(found[:_NAMED_AT_MOST]) + (", …" if len(found) > _NAMED_AT_MOST else "")
        raise PlateError(f"folder {folder} holds {len(found)} sequences: {shown}", f"name one: {folder / found[0]}")
    ((head, tail), group) = next(iter(groups.items()))
    return _from_group(folder, head, tail, group)


def _padding(numbers: Iterable[str]) -> int:
    """Digits of the shortest number: those that are longer have rolled over."""
    return min(len(number.lstrip("-")) for number in numbers)


def _from_group(folder: Path, head: str, tail: str, group: list[tuple[str, str]]) -> tuple[FramePattern, FrameRange]:
    pattern = FramePattern(folder, head, _padding(number for number, _ in group), tail)
    return pattern, _frames_of(pattern, [name for _, name in group])


def _frames_of(pattern: FramePattern, names: list[str]) -> FrameRange:
    """The frames whose file names `pattern` gives; every other spelling of a frame number is a fault."""
    spelling = re.compile(re.escape(pattern.head) + r"(-?[0-9]+)" + re.escape(pattern.tail))
    found: dict[int, str] = {}
    strays: list[str] = []
    for name in sorted(names):
        match = spelling.fullmatch(name)
        if match is None:
            continue
        frame = int(match[1])
        if frame in found:
            raise PlateError(
                f"frame {frame} is there twice in {pattern.folder}: {found[frame]} and {name}",
                "remove one, or give the name with the padding that is meant",
            )
        found[frame] = name
        digits = match[1].lstrip("-")
        rolled_over = len(digits) > pattern.padding and digits[0] != "0"
        if not (len(digits) == pattern.padding or rolled_over) or (match[1] == f"-{digits}" and frame == 0):
            strays.append(name)
    if not found:
        raise PlateError(f"no frames of {pattern}", _nearby(pattern.folder, names))
    if strays:
        raise PlateError(
            f"{strays[0]} in {pattern.folder} doesn't have the padding of {pattern.name(0)}"
            + (f" (and {len(strays) - 1} more)" if len(strays) > 1 else ""),
            "give every frame number the same number of digits",
        )
    return FrameRange.of(found)


def _nearby(folder: Path, names: list[str]) -> str:
    """A hint that names the sequences which are in the folder instead."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        if parsed := _parse(name):
            groups[parsed[0], parsed[2]].append(parsed[1])
    found = [f"{head}{'#' * _padding(numbers)}{tail}" for (head, tail), numbers in sorted(groups.items())]
    if not found:
        return f"the folder {folder} holds no numbered files"
    return f"in {folder} there is " + ", ".join(found[:_NAMED_AT_MOST]) + (", …" if len(found) > _NAMED_AT_MOST else "")

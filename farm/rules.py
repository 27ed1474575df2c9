"""Rule files in a folder: `<studio>.toml`, and `<studio>/<show>.toml` whose word replaces the studio's key by key.

A file is parsed once for as long as it doesn't change. One that can't be used refuses whatever it would have decided.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from farm.settings import PREFIX
from pipeline.errors import Fault, RuleError, SubmissionRefused
from pipeline.rules import NO_RULES, RuleFile, Rules, RuleSet, merged, parse_rules
from pipeline.shot import ShotNameError, check_name

MOST_BYTES = 256 * 1024
"""Rules are written by people."""
SUFFIX = ".toml"
SETTING = f"{PREFIX}RULES"


@dataclass(frozen=True, slots=True)
class Looked:
    """What lies in a folder of rules: names of files that can be used, every fault, and what no one reads."""

    good: tuple[str, ...]
    faults: tuple[Fault, ...]
    ignored: tuple[str, ...]


def read_rules(folder: Path | None, studio: str, show: str = "") -> Rules:
    """What holds for a show, or for a studio alone. Without a folder, or without files of theirs, nothing does.

    Raises: RuleError with every fault: the folder is gone or empty, a file can't be read or isn't of this shape.
    """
    if folder is None:
        return NO_RULES
    if not folder.is_dir():
        _check_present(folder)
    names = [f"{check_name(studio, 'studio')}{SUFFIX}"]
    if show:
        names.append(f"{studio}/{check_name(show, 'show')}{SUFFIX}")
    found, faults = [], list[Fault]()
    for name in names:
        try:
            if (file := _read(folder, name)) is not None:
                found.append(file)
        except RuleError as error:
            faults += error.faults
    if faults:
        raise RuleError(faults)
    if not found:
        _check_present(folder)
    return merged(found)


def look_through(folder: Path) -> Looked:
    """Every file of a folder of rules, each show's together with its studio's.

    Raises: RuleError (no such folder, or no rule file in it).
    """
    _check_present(folder)
    good, faults, ignored = [], dict[Fault, None](), []
    for path in _entries(folder, faults):
        name = path.relative_to(folder).as_posix()
        if not name.endswith(SUFFIX):
            if path.is_dir():
                hint = f"rules lie in STUDIO{SUFFIX} and STUDIO/SHOW{SUFFIX}"
                faults[Fault(name, "is a folder below a studio's: nobody reads it", hint)] = None
            else:
                ignored.append(name)
            continue
        try:
            read_rules(folder, *PurePosixPath(name).with_suffix("").parts)
            good.append(name)
        except ShotNameError as error:
            faults[Fault(name, f"is never read: {error.message}", error.hint)] = None
        except SubmissionRefused as error:
            faults |= dict.fromkeys(error.faults)
    return Looked(tuple(good), tuple(faults), tuple(ignored))


def _entries(folder: Path, faults: dict[Fault, None]) -> Iterator[Path]:
    """What lies in a folder and in the studios' folders in it, hidden things left out."""
    for path in sorted(folder.iterdir(), key=lambda path: f"{path.name}/" if path.is_dir() else path.name):
        if path.name.startswith("."):
            continue
        if path.name.endswith(SUFFIX) or not path.is_dir():
            yield path
            continue
        try:
            yield from (inner for inner in sorted(path.iterdir()) if not inner.name.startswith("."))
        except OSError as error:
            faults[Fault(path.name, f"can't be read: {error.strerror}", "check the folder's owner and rights")] = None


def _check_present(folder: Path) -> None:
    """An empty folder is a share that isn't mounted sooner than a farm without rules. Raises: RuleError."""
    try:
        empty = not any(entry.is_dir() or entry.name.endswith(SUFFIX) for entry in folder.iterdir())
    except OSError as error:
        message = f"the rules folder {folder} can't be read: {error.strerror}"
        raise RuleError([Fault("rules", message, f"mount it, or unset {SETTING} for a farm without rules")]) from error
    if empty:
        message = f"the rules folder {folder} holds no rule file"
        raise RuleError([Fault("rules", message, f"mount it, or unset {SETTING} for a farm without rules")])


def _read(folder: Path, name: str) -> tuple[RuleFile, RuleSet] | None:
    """One file's words; None when it isn't there. Raises: RuleError."""
    path = folder / name
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        message = f"is a link to {real}, outside the rules' folder"
        raise RuleError([Fault(name, message, "put the file itself in its place")])
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise RuleError([Fault(name, "isn't a file", "put a file of rules in its place, or remove it")])
        if found.st_size > MOST_BYTES:
            message = f"is {found.st_size / 1e6:.1f} MB, more than the {MOST_BYTES / 1e6:.2g} MB of any rules"
            raise RuleError([Fault(name, message, "put a file of rules in its place, or remove it")])
        seen = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return _parsed(real, name, seen)
    except FileNotFoundError as error:
        if not path.is_symlink():
            return None
        raise RuleError([Fault(name, f"is a link to {real}, which is gone", "mend the link, or remove it")]) from error
    except OSError as error:
        message = f"can't be read: {error.strerror}"
        raise RuleError([Fault(name, message, "check the file's owner and rights")]) from error


@lru_cache(maxsize=1024)
def _parsed(real: str, name: str, seen: tuple[int, ...]) -> tuple[RuleFile, RuleSet]:
    """A file's words, kept for as long as the file is the one that was `seen`. Raises: OSError, RuleError."""
    with Path(real).open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    rules = parse_rules(data, name)
    if "/" in name and rules.approval.promote is not None:
        where = f"{name} › approval.promote"
        message = "is a studio's rule: a model serves every show"
        raise RuleError([Fault(where, message, f"name them in {name.partition('/')[0]}{SUFFIX}")])
    return RuleFile(name, hashlib.sha256(data).hexdigest()), rules

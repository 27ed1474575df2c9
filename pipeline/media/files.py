"""Write files whole or not at all, and tell a full disk from a broken frame."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import PlateError, StorageError
from pipeline.paths import storage_error


def read_error(error: OSError, path: Path) -> PlateError | StorageError:
    """What an OSError while reading `path` stands for: the file's own fault, or the share's."""
    if isinstance(error, FileNotFoundError):
        return PlateError(f"{path} doesn't exist", "check the path, and that the share is mounted here")
    if isinstance(error, PermissionError):
        return PlateError(f"{path} may not be read by this user", "check its permissions")
    if isinstance(error, (IsADirectoryError, NotADirectoryError)) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return PlateError(f"{path} is no file: {error.strerror}", "check the path")
    return StorageError(f"{path} can't be read: {error.strerror or error}", "check the disk and the share's connection")


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Call `write` with a new file and put it in place as `path` when all of it is written; else leave nothing.

    The bytes go to a hidden `.part` file in the same folder, renamed at the end. Not fsynced: a publish syncs once for all.
    Raises: StorageError; whatever `write` raises passes through.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with _removed_on_error(temporary):
            with temporary.open("xb", buffering=1 << 20) as file:
                write(file)
            temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error


@contextlib.contextmanager
def _removed_on_error(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise

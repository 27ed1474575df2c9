"""Integrate: put a version in its place, whole or not at all.

Everything is linked (copied where links can't reach) into a hidden folder beside the version's, synced to the disk once, and
renamed. A process that dies before the rename leaves only the hidden folder, which the next try removes; one that dies
after it has published. A rename onto an empty folder succeeds on Linux, so the version's row is the first guard; here a
folder with anything in it is the second.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from pipeline.errors import PublishError
from pipeline.paths import storage_error
from pipeline.publish.plugin import INTEGRATE, InstancePlugin, PluginType, publication_of
from pipeline.version import Version

_NO_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
)
"""Why a hard link may fail although a copy would do: another disk, a share without links, a file of another user."""
_PLACING = 0.95
_SYNC_THREADS = 8
"""Syncs that wait together share the file system's commits."""


class IntegrateVersion(InstancePlugin):
    """The one step that others can see."""

    order = INTEGRATE
    label = "version in place"
    families: ClassVar[list[str]] = ["plate"]

    def process(self, instance: Any) -> None:
        """Raises: PublishError (the place is taken), StorageError."""
        publication = publication_of(instance)
        # The last word that may stop it: after the rename the version is published, whatever anybody says.
        publication.progress(_PLACING, "placing the version")
        put_in_place(publication.request.version, publication.files)


def put_in_place(version: Version, files: Mapping[str, Path]) -> None:
    """Make `version.folder` hold exactly `files` (path inside it → where it lies now), in one step.

    Raises: PublishError (something is there already), StorageError (full, unwritable, gone). Nothing is left then.
    """
    parent = version.folder.parent
    made: list[Path] = []
    staging = parent / f"{_prefix(version)}{os.getpid()}-{secrets.token_hex(4)}.staging"
    try:
        made = _make_parents(parent)
        _remove_staging(version)
        _refuse_taken(version)
        _build(staging, files)
        _sync(staging)
        _rename(staging, version)
        _sync_folder(parent)
    except BaseException as error:
        _clean(staging, made)
        if isinstance(error, OSError):
            raise storage_error(error, version.folder) from error
        raise


def settle(version: Version) -> None:
    """Finish what a process could not that died right after its rename."""
    _remove_staging(version)
    _sync_folder(version.folder.parent)


def _remove_staging(version: Version) -> None:
    """Remove what a killed try of the same version left. A try that still lives fails then: its lease is over."""
    for left in version.folder.parent.glob(f"{_prefix(version)}*.staging"):
        shutil.rmtree(left, ignore_errors=True)


def _prefix(version: Version) -> str:
    return f".{version.folder.name}."


def _make_parents(parent: Path) -> list[Path]:
    """Make the folder and what leads to it; returns those that weren't there, deepest first."""
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _refuse_taken(version: Version) -> None:
    if version.folder.is_dir() and not any(version.folder.iterdir()):
        return
    if version.folder.exists() or version.folder.is_symlink():
        raise PublishError(
            f"{version.folder} exists already and is not this job's",
            "versions are never overwritten: submit again for the next number, or move that folder away",
        )


def _build(staging: Path, files: Mapping[str, Path]) -> None:
    staging.mkdir()
    for inside, source in files.items():
        target = staging / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(source, target)


def _sync(staging: Path) -> None:
    """Bring every file and folder to the disk, before the rename makes them visible."""
    files = [path for path in staging.rglob("*") if path.is_file()]
    folders = [staging, *(path for path in staging.rglob("*") if path.is_dir())]
    with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync") as pool:
        list(pool.map(_sync_file, files))
        list(pool.map(_sync_folder, folders))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    # Some network shares don't sync folders; the files on them are safe all the same.
    with contextlib.suppress(OSError):
        _sync_file(path)


def _rename(staging: Path, version: Version) -> None:
    try:
        staging.rename(version.folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            _refuse_taken(version)
        raise


def _clean(staging: Path, made: list[Path]) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


PLUGINS: tuple[PluginType, ...] = (IntegrateVersion,)

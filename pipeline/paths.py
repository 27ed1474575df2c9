"""Which paths of a submission may be touched. Ours, because a timeline's URL may hold `..`, %00 or another scheme."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PathError, StorageError

_WORDS = {
    errno.ENOSPC: ("is full", "free some space there, then retry"),
    errno.EDQUOT: ("is over its quota", "free some space there or raise the quota, then retry"),
    errno.EFBIG: ("doesn't take files of this size", "raise the file size limit there"),
    errno.EROFS: ("is mounted read-only", "mount it writable, or name another output"),
    errno.EACCES: ("doesn't let this user write", "check the folder's permissions"),
    errno.EPERM: ("doesn't let this user write", "check the folder's permissions"),
    errno.EIO: ("fails to write", "check the disk and the share's connection"),
    errno.ESTALE: ("is gone: the share was remounted or its export removed", "mount it again, then retry"),
    errno.ENOTCONN: ("is gone: the share is not connected", "mount it again, then retry"),
    errno.ETIMEDOUT: ("does not answer", "check the share's connection"),
    errno.ENOENT: ("has no such folder", "create it, or check that the share is mounted"),
    errno.ENOTDIR: ("has no such folder", "a part of the path is a file"),
}


def allowed_path(text: str, roots: Sequence[Path]) -> Path:
    """The real, absolute path of `text`, links followed, when it lies under one of `roots`; no roots means any path.

    Raises: PathError (relative, a null byte, a URL, outside every root).
    """
    if "\x00" in text:
        raise PathError("a path holds a null byte", "remove it")
    if "://" in text:
        raise PathError(f"{text} is a URL", "give a path on disk")
    path = Path(text)
    if not path.is_absolute():
        raise PathError(f"{text} is relative", "give an absolute path: the dispatcher runs in another folder")
    real = Path(os.path.realpath(path))
    if roots and not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise PathError(
            f"{text} lies outside the allowed roots", f"allowed: {allowed}; a TD can add one in PLATEWRIGHT_ROOTS"
        )
    return real


def check_output(root: Path, *, needed_bytes: int) -> None:
    """Make sure that `root` can be written and holds `needed_bytes` more, leaving nothing behind.

    Raises: StorageError.
    """
    existing = next(p for p in (root, *root.parents) if p.exists())
    if not existing.is_dir():
        raise StorageError(f"the output {root} can't be made: {existing} is a file", "choose another --out")
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"\0")
            probe.flush()
    except OSError as error:
        raise storage_error(error, existing) from error
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise StorageError(
            f"the output {root} has {free / 1e9:.1f} GB free, this job needs about {needed_bytes / 1e9:.1f} GB",
            "free some space or choose another --out",
        )


_OF_THE_DISK = frozenset(_WORDS) - {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM}
_IN_WORDS = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust, such as safetensors, tell of an OSError that they met: as text alone."""


def disk_fault(error: BaseException) -> OSError | None:
    """The OSError that an exception is, or tells of, where the disk is to blame: it is full, gone or broken. Else None."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _IN_WORDS.search(str(error))):
        number = int(found[1])
    if number not in _OF_THE_DISK:
        return None
    return error if isinstance(error, OSError) else OSError(number, os.strerror(number))


def storage_error(error: OSError, path: Path | str) -> StorageError:
    """The StorageError that an OSError while writing `path` stands for: which disk, what is wrong, what to do."""
    words, hint = _WORDS.get(error.errno or 0, (f"fails: {error.strerror or error}", "check the disk"))
    disk = Path(path).parent
    while not disk.exists() and disk != disk.parent:
        disk = disk.parent
    mount = disk
    while not os.path.ismount(mount) and mount != mount.parent:
        mount = mount.parent
    left = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            left = f", {shutil.disk_usage(mount).free / 1e6:.0f} MB left"
    return StorageError(f"{path} can't be written: the disk at {mount} {words}{left}", hint)

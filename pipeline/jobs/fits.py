"""Fits that were done before: an artist who only moves an edge or tries another take doesn't wait for the same one again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

MOST_KEPT = 8
"""Fits that stay; the one unused for longest goes."""


class KeptFits:
    """Folders of finished fits by key, in a folder of their own. Files are hard links: keeping one costs no room while its job
    is there. Every step may race with another process: what is gone is just not found."""

    def __init__(self, folder: Path, *, most: int = MOST_KEPT) -> None:
        self._folder = folder
        self._most = most

    def take(self, key: str, target: Path) -> bool:
        """Make `target` hold the fit of that key. False when there is none, or it can't be linked; `target` is empty then."""
        source = self._folder / key
        if not source.is_dir():
            return False
        try:
            _link(source, target)
            os.utime(source)
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True, exist_ok=True)
            return False
        return True

    def keep(self, key: str, source: Path) -> None:
        """Remember a finished fit. Where that can't be done, such as on a full disk, nothing is kept and nobody is told."""
        place = self._folder / key
        part = self._folder / f".{key}.{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            if not place.exists():
                _link(source, part)
                part.rename(place)
            self._prune()
        shutil.rmtree(part, ignore_errors=True)

    def _prune(self) -> None:
        kept = sorted(
            (p for p in self._folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime
        )
        for old in kept[: max(0, len(kept) - self._most)]:
            # First out of sight, then away: nobody links half of it.
            gone = old.with_name(f".{old.name}.{secrets.token_hex(4)}")
            old.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Every file of a folder, linked. Raises: OSError."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)

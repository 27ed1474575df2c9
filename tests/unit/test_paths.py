"""Which paths may be touched, and what a disk that fails is called."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import PathError, StorageError
from pipeline.paths import allowed_path, check_output, storage_error


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("show", "library", "elsewhere"):
        (tmp_path / name).mkdir()
    return tmp_path / "show", tmp_path / "library"


def test_a_path_under_any_root_is_allowed_whether_it_is_there_or_not(roots: tuple[Path, Path]) -> None:
    assert allowed_path(f"{roots[1]}/a/b.####.exr", roots) == roots[1] / "a" / "b.####.exr"
    assert allowed_path(str(roots[0]), roots) == roots[0]


@pytest.mark.parametrize("way", ["../elsewhere/x", "a/../../elsewhere", "link/x", "../showy/x", "./../library/../x"])
def test_no_way_leads_out_of_the_roots(roots: tuple[Path, Path], way: str) -> None:
    (roots[0] / "link").symlink_to(roots[0].parent / "elsewhere")
    with pytest.raises(PathError, match="outside"):
        allowed_path(f"{roots[0]}/{way}", roots)


def test_a_link_between_roots_is_followed_and_a_root_may_be_a_link_itself(roots: tuple[Path, Path]) -> None:
    (roots[0] / "plates").symlink_to(roots[1])
    assert allowed_path(f"{roots[0]}/plates/x", roots) == roots[1] / "x"
    alias = roots[0].parent / "alias"
    alias.symlink_to(roots[0])
    assert allowed_path(f"{alias}/x", (alias,)) == roots[0] / "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plates/x.exr", "relative"), ("", "relative"), ("~/x", "relative"), ("file:///x", "URL"),
        ("http://x/y", "URL"), ("/x\x00/y", "null"),
    ],
)  # fmt: skip
def test_what_is_no_plain_absolute_path_is_refused(text: str, words: str) -> None:
    with pytest.raises(PathError, match=words):
        allowed_path(text, ())


def test_without_roots_any_absolute_path_goes(tmp_path: Path) -> None:
    assert allowed_path("/etc/../etc/hosts", ()) == Path(os.path.realpath("/etc/hosts"))


def test_a_link_that_leads_to_itself_does_not_hang(roots: tuple[Path, Path]) -> None:
    (roots[0] / "loop").symlink_to(roots[0] / "loop")
    assert allowed_path(f"{roots[0]}/loop", roots).is_relative_to(roots[0])


def test_checking_an_output_leaves_nothing_behind_not_even_its_folder(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep", needed_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_an_output_below_a_file_or_too_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        check_output(tmp_path / "file" / "out", needed_bytes=0)
    with pytest.raises(StorageError, match=r"GB free, this job needs about"):
        check_output(tmp_path, needed_bytes=shutil.disk_usage(tmp_path).total * 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="let this user write"):
        check_output(tmp_path / "out", needed_bytes=0)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "is full, "), (errno.EROFS, "read-only"), (errno.ESTALE, "is gone"), (errno.EMFILE, "fails: ")],
)
def test_a_disk_that_fails_is_named_with_what_is_wrong(tmp_path: Path, number: int, words: str) -> None:
    error = storage_error(OSError(number, os.strerror(number)), tmp_path / "not" / "there" / "x.exr")
    assert words in error.message
    assert "x.exr" in error.message
    assert error.hint

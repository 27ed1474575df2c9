"""A log for every attempt: whole lines, bounded, each studio's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.logbook import MOST_BYTES, LogBook
from pipeline.errors import StorageError
from tests.queue_kit import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000.0)


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> LogBook:
    return LogBook(tmp_path / "logs", clock=clock)


def texts(book: LogBook, studio: str = "local", chunk: int = 1, attempt: int = 1, after: int = 0) -> list[str]:
    return [entry["text"] for entry in book.read(studio, chunk=chunk, attempt=attempt, after=after)]


def test_lines_come_back_in_order_stamped_by_the_given_clock(book: LogBook, clock: Clock) -> None:
    book.append("local", chunk=1, attempt=1, lines=["a", "b"])
    clock.now = 1_002.5
    book.append("local", chunk=1, attempt=1, lines=["c"])
    assert book.read("local", chunk=1, attempt=1) == [
        {"t": 1000.0, "text": "a"}, {"t": 1000.0, "text": "b"}, {"t": 1002.5, "text": "c"},
    ]  # fmt: skip
    assert texts(book, after=2) == ["c"]
    assert texts(book, after=3) == []


def test_each_attempt_and_each_studio_has_a_log_of_its_own(book: LogBook) -> None:
    book.append("local", chunk=1, attempt=1, lines=["first"])
    book.append("local", chunk=1, attempt=2, lines=["second"])
    book.append("other", chunk=1, attempt=1, lines=["theirs"])
    assert texts(book) == ["first"]
    assert texts(book, attempt=2) == ["second"]
    assert texts(book, "other") == ["theirs"]
    assert texts(book, "nobody") == []
    assert texts(book, chunk=9) == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "two\nlines",
        "carriage\rreturn",
        "nel\x85here",
        "line\u2028separator",
        "form\x0cfeed",
        "\x1c\x1d\x1e",
        "ü ✓ 画",
        '"}{',
    ],
)
def test_any_text_is_one_line_and_comes_back_as_it_was(book: LogBook, line: str) -> None:
    book.append("local", chunk=1, attempt=1, lines=["before", line, "behind"])
    assert texts(book) == ["before", line, "behind"]


def test_half_a_surrogate_is_kept_from_breaking_the_log(book: LogBook) -> None:
    book.append("local", chunk=1, attempt=1, lines=["half \ud800 pair", "behind"])
    assert texts(book) == ["half ? pair", "behind"]


def test_a_line_that_was_cut_by_a_kill_spoils_neither_those_before_nor_those_behind(
    book: LogBook, tmp_path: Path
) -> None:
    book.append("local", chunk=1, attempt=1, lines=["whole"])
    with (tmp_path / "logs" / "local" / "1.1.jsonl").open("a") as log:
        log.write('{"t": 1, "te')
    assert texts(book) == ["whole"]
    book.append("local", chunk=1, attempt=1, lines=["next", "last"])
    assert texts(book)[-1] == "last"


def test_a_log_that_grows_without_end_is_cut_and_says_so_once(book: LogBook, tmp_path: Path) -> None:
    for _ in range(3):
        book.append("local", chunk=1, attempt=1, lines=["x" * 1_000_000] * 2)
    book.append("local", chunk=1, attempt=1, lines=["more"])
    found = texts(book)
    assert "more" not in found
    assert sum("too long" in line for line in found) == 1
    assert (tmp_path / "logs" / "local" / "1.1.jsonl").stat().st_size < 2 * MOST_BYTES


def test_no_studios_name_leads_out_of_the_folder(tmp_path: Path, clock: Clock) -> None:
    book = LogBook(tmp_path / "logs", clock=clock)
    book.append("../../up", chunk=1, attempt=1, lines=["a"])
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.jsonl")] == ["logs/up/1.1.jsonl"]


def test_nothing_to_say_makes_no_file_and_a_disk_that_fails_is_named(book: LogBook, tmp_path: Path) -> None:
    book.append("local", chunk=1, attempt=1, lines=[])
    assert not (tmp_path / "logs").exists()
    (tmp_path / "logs").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="logs"):
        book.append("local", chunk=1, attempt=1, lines=["a"])

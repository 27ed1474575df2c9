"""What holds for every frame range, rate, template and chunking."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunks
from pipeline.naming import FolderTemplate, version_of
from pipeline.plate import FramePattern
from pipeline.rate import FrameRate
from pipeline.shot import Shot, check_name, safe_name

frame_sets = st.sets(st.integers(-50, 300), max_size=60)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9\-]{0,12}", fullmatch=True)


@given(frame_sets)
def test_a_frame_range_survives_its_text_form(frames: set[int]) -> None:
    value = FrameRange.of(frames)
    assert FrameRange.parse(str(value)) == value
    assert set(value) == frames


@given(frame_sets, frame_sets)
def test_frame_ranges_combine_like_sets(a: set[int], b: set[int]) -> None:
    x, y = FrameRange.of(a), FrameRange.of(b)
    assert set(x | y) == a | b
    assert set(x & y) == a & b
    assert set(x - y) == a - b
    assert sum(last - first + 1 for first, last in x.runs()) == len(a)


@given(frame_sets, st.integers(1, 20), st.integers(0, 5), st.sets(st.integers(-50, 300), max_size=5))
def test_chunks_write_every_frame_once_and_cross_neither_gap_nor_cut(
    frames: set[int], size: int, context: int, cuts: set[int]
) -> None:
    chunks = Chunks(FrameRange.of(frames), size=size, context=context, cuts=tuple(cuts))
    written = [frame for chunk in chunks for frame in chunk.frames]
    assert written == sorted(frames)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        seen = chunk.frames | chunk.context
        assert 1 <= len(chunk.frames) <= size
        assert seen.runs() == [(seen.first, seen.last)], "a window has no gap"
        assert not any(seen.first < cut <= seen.last for cut in cuts), "a window crosses no cut"
        assert set(seen) <= frames
        assert not set(chunk.frames) & set(chunk.context)
        assert len(chunk.context) <= 2 * context


@given(frame_sets, st.integers(1, 7))
def test_chunks_are_a_sequence(frames: set[int], size: int) -> None:
    chunks = Chunks(FrameRange.of(frames), size=size)
    assert list(chunks) == [chunks[i] for i in range(len(chunks))]
    assert list(chunks[1:3]) == list(chunks)[1:3]
    if len(chunks):
        assert chunks[-1] == chunks[len(chunks) - 1]


@given(st.sampled_from([24, 25, 30, 48, 50, 60, 120]), st.booleans())
def test_a_rate_is_exact_again_after_any_exporter_rounded_it(base: int, ntsc: bool) -> None:
    exact = Fraction(base * 1000, 1001) if ntsc and base not in (25, 50) else Fraction(base)
    rounded = (float(exact), round(float(exact), 3), round(float(exact), 2), float(f"{float(exact):.7g}"))
    for seen in rounded:
        assert FrameRate.of(seen).value == exact
    assert FrameRate.of(str(FrameRate(exact))).value == exact


@given(names, names, names | st.just(""), names, st.integers(1, 9999))
def test_a_version_folder_parses_back_to_its_fields(
    show: str, shot: str, sequence: str, product: str, number: int
) -> None:
    template = FolderTemplate()
    address = Shot(show=show, shot=shot, sequence=sequence)
    folder = template.format(address, product, number)
    assert template.parse(str(folder)) == {
        "show": show,
        "sequence": sequence,
        "shot": shot,
        "product": product,
        "version": f"v{number:03d}",
    }
    version = version_of(address, product, number, Path("/root"), template)
    assert version.folder.is_relative_to("/root")
    assert version.pattern.name(1001) == f"{version.name}.1001.exr"


@given(st.text(max_size=80))
def test_any_text_becomes_a_safe_name(text: str) -> None:
    assert check_name(safe_name(text), "shot")


@given(names, st.integers(1, 6), st.integers(-2000, 200_000))
def test_a_frame_pattern_names_files_that_lead_back_to_it(head: str, padding: int, frame: int) -> None:
    pattern = FramePattern.parse(f"/p/{head}.{'#' * padding}.exr")
    assert pattern is not None
    assert FramePattern.parse(str(pattern)) == pattern
    assert pattern.name(frame) == f"{head}.{'-' if frame < 0 else ''}{abs(frame):0{padding}d}.exr"

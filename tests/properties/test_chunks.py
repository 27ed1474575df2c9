"""Chunks where some frames can't be read and others lie beside the range: what holds for any of them."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunks

numbers = st.integers(-30, 60)
frame_sets = st.sets(numbers, max_size=50)
cut_sets = st.sets(numbers, max_size=4)


def shot_of(frame: int, cuts: set[int]) -> int:
    """Which of the shots that begin at the cuts a frame lies in."""
    return bisect_right(sorted(cuts), frame)


def made(frames: set[int], readable: set[int], size: int, context: int, cuts: set[int]) -> Chunks:
    return Chunks(FrameRange.of(frames), size=size, context=context, cuts=tuple(cuts), readable=FrameRange.of(readable))


@given(frame_sets, frame_sets, st.integers(1, 20), st.integers(0, 6), cut_sets)
def test_every_frame_is_written_once_readable_or_not(
    frames: set[int], readable: set[int], size: int, context: int, cuts: set[int]
) -> None:
    chunks = made(frames, readable, size, context, cuts)
    assert [frame for chunk in chunks for frame in chunk.frames] == sorted(frames)
    assert all(1 <= len(chunk.frames) <= size for chunk in chunks)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))


@given(frame_sets, frame_sets, st.integers(1, 20), st.integers(0, 6), cut_sets)
def test_context_can_be_read_lies_beside_the_chunk_and_never_beyond_a_cut(
    frames: set[int], readable: set[int], size: int, context: int, cuts: set[int]
) -> None:
    for chunk in made(frames, readable, size, context, cuts):
        (shot,) = {shot_of(frame, cuts) for frame in chunk.frames}
        for frame in chunk.context:
            assert frame in readable
            assert frame not in chunk.frames
            assert not chunk.frames.first < frame < chunk.frames.last
            assert shot_of(frame, cuts) == shot


@given(frame_sets, frame_sets, st.integers(1, 20), st.integers(0, 6), cut_sets)
def test_context_is_the_nearest_that_can_be_read_on_either_side(
    frames: set[int], readable: set[int], size: int, context: int, cuts: set[int]
) -> None:
    for chunk in made(frames, readable, size, context, cuts):
        shot = shot_of(chunk.frames.first, cuts)
        mine = [frame for frame in sorted(readable) if shot_of(frame, cuts) == shot]
        before = [frame for frame in mine if frame < chunk.frames.first]
        after = [frame for frame in mine if frame > chunk.frames.last]
        nearest = (before[-context:] if context else []) + after[:context]
        assert list(chunk.context) == nearest


@given(frame_sets, st.integers(1, 20), st.integers(0, 6), cut_sets)
def test_of_an_unbroken_range_it_makes_no_difference_to_say_that_all_of_it_can_be_read(
    frames: set[int], size: int, context: int, cuts: set[int]
) -> None:
    whole = set(range(min(frames), max(frames) + 1)) if frames else set()
    said = made(whole, whole, size, context, cuts)
    assert list(said) == list(Chunks(FrameRange.of(whole), size=size, context=context, cuts=tuple(cuts)))


@given(frame_sets, frame_sets, st.integers(0, 6), cut_sets, st.integers(1, 20), st.integers(1, 20))
def test_what_a_frame_may_read_on_its_own_it_may_read_in_any_chunk(
    frames: set[int], readable: set[int], context: int, cuts: set[int], size: int, other: int
) -> None:
    """Else a frame would look different from one size of chunks to the next."""
    alone = {chunk.frames.first: set(chunk.context) for chunk in made(frames, readable, 1, context, cuts)}
    for chosen in (size, other):
        for chunk in made(frames, readable, chosen, context, cuts):
            here = set(chunk.context) | (set(chunk.frames) & readable)
            assert all(alone[frame] <= here for frame in chunk.frames)

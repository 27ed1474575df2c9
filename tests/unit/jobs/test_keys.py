"""Content keys: everything that a frame depends on changes its key, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames import FrameRange
from pipeline.jobs import keys as keys_module
from pipeline.jobs.chunks import Chunks
from pipeline.jobs.keys import ContentKeys
from pipeline.jobs.plan import plan
from pipeline.jobs.spec import InputSpec, JobSpec, KeySpec, ModelSpec, PlateSpec, ReplaySpec, TakeSpec
from pipeline.parameters import Kind, Parameters, parameter
from pipeline.tasks.definition import Bound, TaskDefinition
from tests.queue_kit import job_spec


class _Knobs(Parameters):
    amount: float = parameter(0.5, help="How much.")
    reach: int = parameter(1, help="Frames that are read on either side.")
    mode: str = parameter("a", help="Which way.")
    matte: str | None = parameter(None, kind=Kind.MASK, help="Where.")
    clean: str | None = parameter(None, kind=Kind.PLATE, help="Behind.")
    mood: str | None = parameter(None, kind=Kind.REFERENCE, help="Like what.")
    net: str | None = parameter(None, kind=Kind.MODEL, help="More weights.")
    seed: int | None = parameter(None, kind=Kind.SEED, help="Start of chance.")


PLAIN = TaskDefinition(
    name="plain", label="P", help="h", parameters=_Knobs, runner="a:B", product="p", context_frames=lambda p: p.reach,  # type: ignore[attr-defined]
)  # fmt: skip
LEARNING = replace(PLAIN, fits=True)
PREVIEWING = replace(PLAIN, fits=True, learns=False)
FRAMES = "1001-1010"
HASHES = {frame: f"h{frame}" for frame in range(1001, 1011)}
COMPLETE: dict[str, Any] = _Knobs().model_dump(mode="json")


def take_of(**more: Any) -> TakeSpec:
    given_ = {**COMPLETE, **more.pop("parameters", {})}
    return TakeSpec(**{"index": 0, "name": "take-1", "seed": 5, "parameters": given_, **more})


def spec_of(take: TakeSpec | None = None, **more: Any) -> JobSpec:
    base = job_spec(FRAMES, input_hashes=HASHES)
    return base.model_copy(update={"task": "plain", "takes": (take or take_of(),), **more})


def all_keys(spec: JobSpec, definition: TaskDefinition = PLAIN) -> dict[int, str | None]:
    content = ContentKeys(spec, spec.takes[0], definition)
    return {frame: content.of(frame) for frame in FrameRange.parse(spec.frames)}


def changed(before: JobSpec, after: JobSpec, definition: TaskDefinition = PLAIN) -> set[int]:
    """Frames whose key isn't the same."""
    one, other = all_keys(before, definition), all_keys(after, definition)
    assert None not in one.values()
    return {frame for frame in one if one[frame] != other.get(frame)}


EVERY = set(range(1001, 1011))


def plate(**more: Any) -> PlateSpec:
    return spec_of().plate.model_copy(update=more)


def test_every_frame_has_a_key_of_its_own_and_the_same_job_gives_the_same() -> None:
    one = all_keys(spec_of())
    assert len(set(one.values())) == 10
    assert all(key is not None and len(key) == 32 and int(key, 16) >= 0 for key in one.values())
    assert one == all_keys(JobSpec.model_validate_json(spec_of().model_dump_json())), "a worker finds the same"


EVERYTHING: dict[str, Callable[[], JobSpec]] = {
    "task": lambda: spec_of(task="other"),
    "codec": lambda: spec_of(codec="piz"),
    "seed": lambda: spec_of(take_of(seed=6)),
    "a parameter": lambda: spec_of(take_of(parameters={"amount": 0.6})),
    "a text": lambda: spec_of(take_of(parameters={"mode": "b"})),
    "weights by name": lambda: spec_of(take_of(model=ModelSpec(name="net-2"))),
    "weights' content": lambda: spec_of(take_of(model=ModelSpec(sha256="a" * 64))),
    "weights' family": lambda: spec_of(take_of(model=ModelSpec(family="onnx"))),
    "more weights": lambda: spec_of(take_of(weights={"net": "b" * 64})),
    "data window": lambda: spec_of(take_of(data_window=(-1, 0, 63, 63))),
    "display window": lambda: spec_of(take_of(display_window=(-1, 0, 63, 63))),
    "the plate's colour space": lambda: spec_of(plate=plate(colorspace="lin_ap1_scene")),
    "what the plate's files are in": lambda: spec_of(plate=plate(source_colorspace="srgb_rec709_scene")),
    "the plate's rate": lambda: spec_of(plate=plate(rate="25")),
    "a key's matte": lambda: spec_of(keys=(KeySpec(frame=1003, path="/k", hash="a"),)),
    "a reference picture": lambda: spec_of(take_of(inputs={"mood": InputSpec(path="/m", digests={"a.jpg": "1"})})),
    "a still matte": lambda: spec_of(take_of(inputs={"matte": InputSpec(path="/m.exr", digests={"m.exr": "1"})})),
}


@pytest.mark.parametrize("what", EVERYTHING)
def test_what_every_frame_depends_on_changes_every_key(what: str) -> None:
    assert changed(spec_of(), EVERYTHING[what]()) == EVERY


def test_no_two_ingredients_lead_to_the_same_key() -> None:
    made = [key for make in EVERYTHING.values() for key in all_keys(make()).values()]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "change",
    [
        lambda: spec_of(take_of(name="other", index=0)), lambda: spec_of(priority=90, pool="p", user="ann", chunk_frames=3),
        lambda: spec_of(shot="sh999", show="x", studio="y", sequence="z", publish_root="/elsewhere"),
        lambda: spec_of(plate=plate(pattern="/moved/sh010.####.exr", frames="1-5000", timecode="01:00:00:00")),
        lambda: spec_of(cut_path="/cut.otio", cut_sha256="ab", edit={"clip": "x"}, warnings=("soft",)),
        lambda: spec_of(bounds={"confidence": Bound(least=1)}), lambda: spec_of(model="in words"),
        lambda: spec_of(take_of(parameters={"matte": "/elsewhere.exr", "net": "/n.onnx"})),
        lambda: spec_of(use="final"), lambda: spec_of(policy={"allowed": True, "checks": []}), lambda: spec_of(preset="soft"),
        lambda: spec_of(replays=ReplaySpec(version=1, name="v", folder="/v", pattern="/v/v.####.exr", frames=FRAMES)),
    ],
)  # fmt: skip
def test_what_changes_no_pixel_changes_no_key(change: Callable[[], JobSpec]) -> None:
    assert changed(spec_of(), change()) == set()
    assert changed(spec_of(), change(), LEARNING) == set()


@pytest.mark.parametrize("definition", [PLAIN, LEARNING], ids=["plain", "learning"])
@pytest.mark.parametrize(
    "other",
    [
        {"name": "villain@v007", "card": "villain@v007"},
        {"name": "net", "path": "/inbox/net.safetensors", "card": ""},
        {"licence": "MIT"},
    ],
)
def test_the_same_weights_under_another_name_make_the_same_frames(
    definition: TaskDefinition, other: dict[str, str]
) -> None:
    card = {"name": "hero@v003", "path": "/m/a.safetensors", "family": "net", "sha256": "a" * 64, "card": "hero@v003"}
    before = spec_of(take_of(model=ModelSpec(**card)))
    assert changed(before, spec_of(take_of(model=ModelSpec(**{**card, **other}))), definition) == set()
    for makes_others in ({"sha256": "b" * 64}, {"family": "onnx"}):
        after = spec_of(take_of(model=ModelSpec(**{**card, **makes_others})))
        assert changed(before, after, definition) == EVERY


def test_moving_the_weights_or_a_mask_changes_no_key() -> None:
    def at(folder: str) -> JobSpec:
        inputs = {"matte": InputSpec(path=f"{folder}/m.####.exr", digests={f"m.{f}.exr": str(f) for f in EVERY})}
        model = ModelSpec(name="net", path=f"{folder}/net.onnx", sha256="a" * 64, family="onnx")
        return spec_of(take_of(inputs=inputs, model=model, parameters={"matte": f"{folder}/m.####.exr"}))

    assert changed(at("/a"), at("/b")) == set()


def test_versions_of_what_computes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = all_keys(spec_of())
    real = keys_module.software()
    monkeypatch.setattr(keys_module, "software", lambda: {**real, "numpy": "99.0"})
    assert not set(before.values()) & set(all_keys(spec_of()).values())
    monkeypatch.setattr(keys_module, "software", lambda: {**real, "platform": "another machine", "pyblish-base": "9"})
    assert all_keys(spec_of()) == before, "what makes no pixel doesn't count"
    monkeypatch.undo()
    monkeypatch.setattr(keys_module, "__version__", "99.0")
    assert not set(before.values()) & set(all_keys(spec_of()).values())
    monkeypatch.undo()
    monkeypatch.setattr(keys_module, "package_of", lambda name: f"{name} 2.0")
    assert not set(before.values()) & set(all_keys(spec_of()).values()), "a task's own package is released by itself"


# Frames of the plate


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_a_plate_frame_counts_for_the_frames_that_may_read_it(reach: int) -> None:
    take = take_of(parameters={"reach": reach})
    after = spec_of(take, input_hashes={**HASHES, 1005: "new"})
    assert changed(spec_of(take), after) == {f for f in EVERY if abs(f - 1005) <= reach}


def test_a_frame_is_not_read_across_a_cut() -> None:
    take, cuts = take_of(parameters={"reach": 3}), (1005,)
    after = spec_of(take, cuts=cuts, input_hashes={**HASHES, 1005: "new"})
    assert changed(spec_of(take, cuts=cuts), after) == {1005, 1006, 1007, 1008}


def test_a_fit_that_learns_makes_every_frame_depend_on_the_whole_shot() -> None:
    after = spec_of(input_hashes={**HASHES, 1005: "new"})
    assert changed(spec_of(), after, LEARNING) == EVERY
    assert changed(spec_of(), after, PREVIEWING) == {1004, 1005, 1006}


def test_a_longer_range_makes_a_learning_task_do_everything_again_and_no_other() -> None:
    longer = spec_of(frames="1001-1012", input_hashes={**HASHES, 1011: "a", 1012: "b"})
    assert changed(spec_of(), longer, LEARNING) == EVERY
    # 1010 has a neighbour now that it may read.
    assert changed(spec_of(), longer, PLAIN) == {1010}
    assert changed(spec_of(), longer, replace(PLAIN, context_frames=lambda _: 0)) == set()


def test_a_frame_that_nobody_looked_at_has_no_key_and_neither_has_what_reads_it() -> None:
    hashes = {frame: digest for frame, digest in HASHES.items() if frame != 1005}
    found = all_keys(spec_of(input_hashes=hashes))
    assert {frame for frame, key in found.items() if key is None} == {1004, 1005, 1006}
    assert set(all_keys(spec_of(input_hashes=hashes), LEARNING).values()) == {None}


def test_a_frame_that_the_plate_lacks_hangs_on_the_nearest_that_it_has() -> None:
    before = spec_of(missing="1005-1006", input_hashes={f: h for f, h in HASHES.items() if f not in (1005, 1006)})
    for near in (1004, 1007):
        after = before.model_copy(update={"input_hashes": {**before.input_hashes, near: "new"}})
        assert {1005, 1006} <= changed(before, after)
    after = before.model_copy(update={"input_hashes": {**before.input_hashes, 1003: "new"}})
    assert changed(before, after) == {1002, 1003, 1004}


def test_frames_beside_the_range_count_for_those_that_are_made_like_them() -> None:
    before = spec_of(frames="998-1003", missing="998-1000", beside="1004")
    after = before.model_copy(update={"input_hashes": {**HASHES, 1004: "new"}})
    assert changed(before, after) == {1003}


reaches = st.integers(0, 4)
frame_sets = st.sets(st.integers(1, 40), min_size=1, max_size=30)


@given(frame_sets, reaches, st.integers(1, 9), st.sets(st.integers(1, 40), max_size=3), st.data())
def test_whatever_a_chunk_lets_a_frame_read_is_in_its_key(
    frames: set[int], reach: int, size: int, cuts: set[int], data: st.DataObject
) -> None:
    """The chunk's context is what a task may read for the frames at its ends: a key that forgets one reuses a stale frame."""
    missing = data.draw(st.sets(st.sampled_from(sorted(frames)), max_size=len(frames) - 1))
    hashes = {frame: f"h{frame}" for frame in frames - missing}
    spec = spec_of(
        take_of(parameters={"reach": reach}), frames=str(FrameRange.of(frames)), missing=str(FrameRange.of(missing)),
        cuts=tuple(sorted(cuts)), chunk_frames=size, input_hashes=hashes,
    )  # fmt: skip
    content = ContentKeys(spec, spec.takes[0], PLAIN)
    infer = next(step for step in plan(spec, PLAIN) if step.name == "infer")
    assert isinstance(infer.chunks, Chunks)
    for chunk in infer.chunks:
        here = [f for f in (*chunk.frames, *chunk.context) if f not in missing]
        for frame in (chunk.frames.first, chunk.frames.last):
            # Its own frame and the `reach` nearest on either side, of those that the chunk holds.
            may_read = [f for f in sorted(here) if f < frame][-reach:] if reach else []
            may_read += [f for f in sorted(here) if f > frame][:reach]
            may_read += [frame] if frame not in missing else []
            assert set(may_read) <= set(content._near(frame)), (frame, chunk)


# Curves and inputs


def test_a_curve_counts_by_its_values_on_the_frame_and_its_context() -> None:
    flat = {frame: 0.5 for frame in EVERY}
    before = spec_of(take_of(curves={"amount": flat}))
    after = spec_of(take_of(curves={"amount": {**flat, 1004: 0.75}}))
    assert changed(before, after) == {1003, 1004, 1005}
    assert changed(before, after, LEARNING) == {1003, 1004, 1005}, "no fit goes by what may be keyed"
    assert changed(spec_of(), before) == EVERY


def test_the_value_that_stands_for_a_curve_does_not_count() -> None:
    flat = {frame: 0.5 for frame in EVERY}
    one = spec_of(take_of(curves={"amount": flat}, parameters={"amount": 0.5}))
    assert changed(one, spec_of(take_of(curves={"amount": flat}, parameters={"amount": 0.1}))) == set()


NAMES = {
    "pattern": ("/m/mask.####.exr", lambda f: f"mask.{f:04d}.exr"),
    "unpadded": ("/m/mask.%d.exr", lambda f: f"mask.{f}.exr"),
    "three digits": ("/m/mask.###.exr", lambda f: f"mask.{f:03d}.exr"),
    "six digits": ("/m/mask.######.exr", lambda f: f"mask.{f:06d}.exr"),
    "number in the middle": ("/m/mask.####.left2.exr", lambda f: f"mask.{f:04d}.left2.exr"),
    "folder": ("/m/folder", lambda f: f"mask_v2.{f:05d}.exr"),
}


@pytest.mark.parametrize("parameter_name", ["matte", "clean"])
@pytest.mark.parametrize("first", [1, 7, 98, 1001])
@pytest.mark.parametrize("how", NAMES)
def test_a_sequence_counts_frame_by_frame_however_its_files_are_named(
    how: str, first: int, parameter_name: str
) -> None:
    path, name = NAMES[how]
    frames = range(first, first + 10)
    hashes = {frame: "h" for frame in frames}

    def of(digests: dict[str, str]) -> JobSpec:
        take = take_of(inputs={parameter_name: InputSpec(path=path, digests=digests)})
        return spec_of(take, frames=f"{first}-{first + 9}", input_hashes=hashes)

    before = {name(frame): "a" for frame in frames}
    middle = first + 4
    assert changed(of(before), of({**before, name(middle): "b"})) == {middle - 1, middle, middle + 1}


def test_frames_before_zero_count_too() -> None:
    hashes = {frame: "h" for frame in range(-5, 5)}

    def of(digest: str) -> JobSpec:
        digests = {f"m.{'-' if f < 0 else ''}{abs(f):04d}.exr": "a" for f in range(-5, 5)} | {"m.-0002.exr": digest}
        take = take_of(parameters={"reach": 0}, inputs={"matte": InputSpec(path="/m.####.exr", digests=digests)})
        return spec_of(take, frames="-5-4", input_hashes=hashes)

    assert changed(of("a"), of("b")) == {-2}


def test_a_learning_task_hangs_on_every_frame_of_a_mask() -> None:
    def of(digest: str) -> JobSpec:
        digests = {f"m.{frame}.exr": "a" for frame in EVERY} | {"m.1004.exr": digest}
        return spec_of(take_of(inputs={"matte": InputSpec(path="/m.####.exr", digests=digests)}))

    assert changed(of("a"), of("b"), LEARNING) == EVERY


def test_every_picture_of_a_mood_board_counts_for_every_frame() -> None:
    def of(digest: str) -> JobSpec:
        board = InputSpec(path="/mood", digests={"a.1001.jpg": "a", "b.1002.jpg": digest})
        return spec_of(take_of(inputs={"mood": board}))

    assert changed(of("a"), of("b")) == EVERY


# The fit


def test_takes_that_differ_in_what_no_fit_sees_share_its_key() -> None:
    class Fitting(Parameters):
        steps: int = parameter(10, help="How long.")
        soft: float = parameter(0.0, help="Afterwards, and keyable.")
        clean: bool = parameter(True, affects="frames", help="Afterwards.")

    definition = replace(LEARNING, parameters=Fitting, context_frames=lambda _: 0)

    def key(seed: int = 5, **given_: Any) -> str | None:
        take = TakeSpec(index=0, name="t", seed=seed, parameters={**Fitting().model_dump(), **given_})
        return ContentKeys(spec_of(take), take, definition).of_fit

    assert key() == key(soft=3.0) == key(clean=False)
    assert len({key(), key(steps=11), key(seed=6)}) == 3
    spec = spec_of(input_hashes={**HASHES, 1005: "new"})
    take = TakeSpec(index=0, name="t", seed=5, parameters=Fitting().model_dump())
    assert ContentKeys(spec, take, definition).of_fit != key()
    unseen = spec_of(input_hashes={})
    assert ContentKeys(unseen, take, definition).of_fit is None

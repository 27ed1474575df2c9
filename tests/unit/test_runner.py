"""The delivered frame, and chunks through a runner: untouched means bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.compose import compose
from pipeline.errors import PipelineError, PlateError, PublishError, RunnerError
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.spec import JobSpec, KeySpec, PlateSpec, TakeSpec
from pipeline.layer import layers_of
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.parameters import Parameters
from pipeline.plate import FramePattern, Plate, Window
from pipeline.rate import FrameRate
from pipeline.runner import frame_pattern, run_chunk, run_fit
from pipeline.tasks.contract import Cancelled, FrameResult, ModelRef, ShotContext
from pipeline.tasks.definition import TaskDefinition
from tests.unit.media.frames import awkward_float, awkward_half, photo

HEIGHT, WIDTH = 24, 40
WINDOW = Window.of_size(WIDTH, HEIGHT)
Planes = dict[str, NDArray[Any]]


def plate_of(frame: Frame, *, colorspace: str = "lin_rec709_scene", rate: str | None = None) -> Plate:
    main = frame.main
    return Plate(
        FramePattern(Path("/plate"), "p.", 4, ".exr"), FrameRange.of([1]), layers_of(main.channels), main.data_window,
        main.display_window, colorspace, None if rate is None else FrameRate.of(rate),
    )  # fmt: skip


def part(channels: Planes, *, name: str = "", header: Mapping[str, Any] | None = None) -> Part:
    return Part(name, dict(header or {}), channels, WINDOW, WINDOW)


def colours(seed: int = 0) -> Planes:
    """An HDR picture with negatives."""
    planes: Planes = {name: photo(HEIGHT, WIDTH, seed + i) for i, name in enumerate("RGB")}
    planes["R"][0, 0], planes["G"][0, 1], planes["B"][0, 2] = 60000.0, -3.5, 6e-8
    return planes


def matte(value: float = 0.25) -> NDArray[np.float32]:
    return np.full((HEIGHT, WIDTH), value, np.float32)


def result(**more: Any) -> FrameResult:
    return FrameResult(1, more.pop("layers", {"matte": {"A": matte()}}), {"confidence": 1.0}, **more)


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def through_disk(frame: Frame, folder: Path) -> Frame:
    write_frame(folder / "made.exr", frame)
    return read_frame(folder / "made.exr")


def test_untouched_pixels_of_an_hdr_plate_with_negatives_are_bit_identical_through_the_file(tmp_path: Path) -> None:
    source = Frame((part(colours()),))
    made = through_disk(compose(source, result(), plate_of(source)), tmp_path)
    for name in "RGB":
        assert same(made.main.channels[name], source.main.channels[name])
    assert made.main.channels["R"][0, 0] == 60000.0
    assert made.main.channels["G"][0, 1] < 0
    assert made.main.channels["matte.A"].dtype == np.float16


def test_every_bit_pattern_of_layers_that_nobody_touched_is_kept(tmp_path: Path) -> None:
    """NaN in a depth, Cryptomatte's hashes in float, object ids in uint, halves of any kind."""
    depth = awkward_float(HEIGHT, WIDTH)
    depth[0, :] = np.nan
    ids = np.random.default_rng(1).integers(0, 1 << 32, (HEIGHT, WIDTH), dtype=np.uint32)
    layers: Planes = {
        "depth.Z": depth, "crypto00.R": awkward_float(HEIGHT, WIDTH, 1), "crypto00.G": awkward_float(HEIGHT, WIDTH, 2),
        "id": ids, "diffuse.R": awkward_half(HEIGHT, WIDTH),
    }  # fmt: skip
    source = Frame((part({**colours(), **layers}, header={"cryptomatte/1/manifest": '{"a":"3f"}'}),))
    made = through_disk(compose(source, result(), plate_of(source)), tmp_path).main
    for name, plane in layers.items():
        assert same(made.channels[name], plane), name
    assert made.header["cryptomatte/1/manifest"] == '{"a":"3f"}'


def test_the_matte_joins_the_part_that_holds_the_picture_and_the_others_stay(tmp_path: Path) -> None:
    first = part({"Z": awkward_float(HEIGHT, WIDTH)}, name="depth", header={"note": "a"})
    second = part(colours(), name="beauty", header={"note": "b"})
    source = Frame((first, second))
    made = through_disk(compose(source, result(), plate_of(source)), tmp_path)
    assert [p.name for p in made.parts] == ["depth", "beauty"]
    assert [sorted(p.channels) for p in made.parts] == [["Z"], ["B", "G", "R", "matte.A"]]
    assert same(made.parts[0].channels["Z"], first.channels["Z"])
    assert [p.header["note"] for p in made.parts] == ["a", "b"]


def test_a_changed_picture_changes_only_where_it_says_so() -> None:
    source = Frame((part(colours()),))
    changed = np.zeros((HEIGHT, WIDTH), bool)
    changed[5:9, 10:20] = True
    rgb = np.full((3, HEIGHT, WIDTH), 0.75, np.float32)
    made = compose(source, result(rgb=rgb, changed=changed), plate_of(source)).main
    for name in "RGB":
        assert (made.channels[name][changed] == np.float16(0.75)).all()
        assert made.channels[name][~changed].tobytes() == source.main.channels[name][~changed].tobytes()


def test_a_picture_changed_all_over_keeps_the_type_of_its_channels() -> None:
    planes: Planes = {name: plane.astype(np.float32) for name, plane in colours().items()}
    source = Frame((part(planes),))
    rgb = np.full((3, HEIGHT, WIDTH), 1e6, np.float32)
    made = compose(source, result(rgb=rgb), plate_of(source)).main
    assert all(made.channels[n].dtype == np.float32 and (made.channels[n] == 1e6).all() for n in "RGB")


def test_what_half_can_not_hold_is_refused_in_picture_and_layer() -> None:
    source = Frame((part(colours()),))
    with pytest.raises(PlateError, match="channel G"):
        rgb = np.zeros((3, HEIGHT, WIDTH), np.float32)
        rgb[1, 3, 4] = 70000
        compose(source, result(rgb=rgb), plate_of(source))
    with pytest.raises(PlateError, match=r"matte\.A"):
        compose(source, result(layers={"matte": {"A": matte(1e6)}}), plate_of(source))


def test_a_value_beyond_half_outside_of_the_change_is_nobodys_concern() -> None:
    source = Frame((part(colours()),))
    rgb = np.full((3, HEIGHT, WIDTH), 1e6, np.float32)
    changed = np.zeros((HEIGHT, WIDTH), bool)
    changed[2, 2] = True
    rgb[:, 2, 2] = 0.5
    made = compose(source, result(rgb=rgb, changed=changed), plate_of(source)).main
    assert made.channels["R"][2, 2] == np.float16(0.5)


def test_a_matte_that_was_there_is_replaced_in_the_same_part(tmp_path: Path) -> None:
    source = Frame((part({**colours(), "matte.A": matte(0.9).astype(np.float32), "matte.R": photo(HEIGHT, WIDTH)}),))
    made = through_disk(compose(source, result(), plate_of(source)), tmp_path).main
    assert same(made.channels["matte.A"], matte().astype(np.float16))


def test_a_matte_that_lies_in_a_part_of_its_own_is_replaced_there(tmp_path: Path) -> None:
    """Two layers of one name in one file would leave it to the reader which one counts."""
    old = part({"matte.A": matte(0.9).astype(np.float16)}, name="matte")
    source = Frame((part(colours(), name="beauty"), old))
    made = through_disk(compose(source, result(), plate_of(source)), tmp_path)
    found = [p.channels["matte.A"] for p in made.parts if "matte.A" in p.channels]
    assert len(found) == 1
    assert same(found[0], matte().astype(np.float16))


def test_a_layer_of_another_size_is_refused() -> None:
    source = Frame((part(colours()),))
    with pytest.raises(PublishError, match=r"layer matte\.A"):
        compose(source, result(layers={"matte": {"A": np.zeros((HEIGHT, WIDTH - 1), np.float32)}}), plate_of(source))


def test_a_grey_plate_gets_its_matte_as_well() -> None:
    source = Frame((part({"Y": photo(HEIGHT, WIDTH)}),))
    made = compose(source, result(), plate_of(source)).main
    assert set(made.channels) == {"Y", "matte.A"}


def test_a_changed_picture_of_a_grey_plate_is_refused_in_words() -> None:
    source = Frame((part({"Y": photo(HEIGHT, WIDTH)}),))
    with pytest.raises(PipelineError, match="the plate has only Y"):
        compose(source, result(rgb=np.zeros((3, HEIGHT, WIDTH), np.float32)), plate_of(source))


def test_the_header_says_rate_and_colour_space_and_keeps_what_it_said() -> None:
    quiet = Frame((part(colours()),))
    made = compose(quiet, result(), plate_of(quiet, rate="23.976")).main.header
    assert made["framesPerSecond"] == Fraction(24000, 1001)
    assert made["colorInteropID"] == "lin_rec709_scene"
    assert len(made["chromaticities"]) == 8
    told = Frame(
        (part(colours(), header={"framesPerSecond": Fraction(25), "colorInteropID": "lin_ap1_scene", "owner": "x"}),)
    )
    made = compose(told, result(), plate_of(told, colorspace="lin_ap1_scene", rate="24")).main.header
    assert (made["framesPerSecond"], made["owner"], made["colorInteropID"]) == (Fraction(25), "x", "lin_ap1_scene")
    overruled = compose(told, result(), plate_of(told)).main.header
    assert overruled["colorInteropID"] == "lin_rec709_scene"
    assert overruled["chromaticities"] == (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)


# Chunks


class _Knobs(Parameters):
    pass


TASK = TaskDefinition(name="plain", label="P", help="h", parameters=_Knobs, runner="a:B", product="plain")


class Runner:
    """Gives a flat matte for each frame; what else it does, a test says."""

    def __init__(self, *, frames: list[int] | None = None, error: BaseException | None = None) -> None:
        self._frames = frames
        self._error = error
        self.seen: dict[str, Any] = {}

    def load(self, model: ModelRef) -> None: ...

    def unload(self) -> None: ...

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        if self._error is not None:
            raise self._error
        (shot.folder / "weights").write_text(str(shot.seed))
        return {"loss": 0.5}

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        self.seen = {"frames": shot.frames, "context": shot.context, "keys": shot.keys, "cuts": shot.cuts}
        for frame in self._frames if self._frames is not None else shot.frames:
            linear = shot.linear(frame)
            assert linear.dtype == np.float32
            if self._error is not None:
                raise self._error
            yield FrameResult(frame, {"matte": {"A": matte(frame % 10 / 10)}}, {"confidence": 0.5})


class Report:
    def __init__(self, cancel_at: float = 2.0) -> None:
        self.fractions: list[float] = []
        self.done: list[int] = []
        self._cancel_at = cancel_at

    def progress(self, fraction: float, note: str) -> None:
        self.fractions.append(fraction)
        if fraction >= self._cancel_at:
            raise Cancelled

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None: ...

    def frame_done(self, frame: int) -> None:
        self.done.append(frame)


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    """Frames 1 … 6 on disk, with one key."""
    pattern = FramePattern(tmp_path / "plate", "p.", 4, ".exr")
    pattern.folder.mkdir()
    for frame in range(1, 7):
        write_frame(pattern.path(frame), Frame((part(colours(frame), header={"frame": frame}),)))
    write_frame(tmp_path / "key.exr", Frame((part({"A": matte(0.5)}),)))
    plate = Plate(
        pattern, FrameRange.span(1, 6), layers_of("RGB"), WINDOW, WINDOW, "lin_rec709_scene", FrameRate.of(24)
    )  # fmt: skip
    return JobSpec(
        task="plain", studio="local", show="s", sequence="", shot="x", plate=PlateSpec.of(plate, "lin_rec709_scene"),
        frames="1-6", keys=(KeySpec(frame=1, path=str(tmp_path / "key.exr")),), cuts=(4,),
        takes=(TakeSpec(index=0, name="t", seed=9, parameters={}),), model="", codec="zips", publish_root=str(tmp_path),
    )  # fmt: skip


def chunk(frames: str, context: str = "") -> Chunk:
    return Chunk(0, FrameRange.parse(frames), FrameRange.parse(context))


def run(
    spec: JobSpec, folder: Path, runner: Runner, frames: str = "2-4", *, report: Report | None = None
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return run_chunk(
        spec, spec.takes[0], TASK, runner=runner, chunk=chunk(frames, "1,5"), folder=folder, fit_folder=None,
        report=report or Report(),
    )  # fmt: skip


def test_a_chunk_writes_its_frames_and_only_reads_its_context(spec: JobSpec, tmp_path: Path) -> None:
    runner, report = Runner(), Report()
    facts = run(spec, tmp_path / "out", runner, report=report)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "frame.0002.exr",
        "frame.0003.exr",
        "frame.0004.exr",
        "step.json",
    ]
    assert (runner.seen["frames"], runner.seen["context"], runner.seen["cuts"]) == ((2, 3, 4), (1, 5), (4,))
    assert runner.seen["keys"]["matte"][1].shape == (HEIGHT, WIDTH)
    assert facts["layers"] == ["matte"]
    assert facts["frames"]["3"] == {"confidence": 0.5}
    assert (report.fractions[-1], sorted(report.done)) == (1.0, [2, 3, 4])
    for frame in (2, 3, 4):
        made = read_frame(frame_pattern(tmp_path / "out").path(frame)).main
        assert made.header["frame"] == frame
        assert same(made.channels["R"], colours(frame)["R"])
        assert same(made.channels["matte.A"], matte(frame / 10).astype(np.float16))


@pytest.mark.parametrize(
    ("gives", "words"), [([2, 3], "stopped where frame 4"), ([2, 4], "gave frame 4 where frame 3"), ([], "frame 2")]
)
def test_a_runner_that_leaves_a_frame_out_or_swaps_two_is_found_out(
    spec: JobSpec, tmp_path: Path, gives: list[int], words: str
) -> None:
    with pytest.raises(RunnerError, match=words):
        run(spec, tmp_path / "out", Runner(frames=gives))
    assert not (tmp_path / "out" / "step.json").exists()


def test_whatever_a_model_raises_is_told_with_its_place_but_a_cancel_stays_one(spec: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="plain at frame 2 failed: ZeroDivisionError: by nought"):
        run(spec, tmp_path / "out", Runner(error=ZeroDivisionError("by nought")))
    with pytest.raises(MemoryError):
        run(spec, tmp_path / "out", Runner(error=MemoryError()))
    with pytest.raises(Cancelled):
        run(spec, tmp_path / "out", Runner(), report=Report(cancel_at=0.5))
    with pytest.raises(RunnerError, match="fit of plain failed: ValueError"):
        run_fit(
            spec,
            spec.takes[0],
            TASK,
            runner=Runner(error=ValueError("x")),
            frames=chunk("1-6"),
            folder=tmp_path,
            report=Report(),
        )


def test_a_frame_that_went_bad_after_the_submission_is_named(spec: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "plate" / "p.0003.exr").write_bytes(b"v/1\1 cut off")
    with pytest.raises(PlateError, match=r"p\.0003\.exr"):
        run(spec, tmp_path / "out", Runner())


def test_a_fit_leaves_what_it_learnt_and_its_facts(spec: JobSpec, tmp_path: Path) -> None:
    facts = run_fit(spec, spec.takes[0], TASK, runner=Runner(), frames=chunk("1-6"), folder=tmp_path, report=Report())
    assert facts["loss"] == 0.5
    assert facts["seconds"] >= 0
    assert (tmp_path / "weights").read_text() == "9"
    assert (tmp_path / "step.json").exists()

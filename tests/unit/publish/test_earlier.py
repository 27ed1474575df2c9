"""Frames of earlier versions: linked when they are what was published, made again when anything is in doubt."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk
from pipeline.jobs.fits import KeptFits
from pipeline.jobs.keys import ContentKeys
from pipeline.jobs.spec import JobSpec, PlateSpec, TakeSpec
from pipeline.media.exr import Frame, pixel_hash, read_frame, write_frame
from pipeline.parameters import Parameters, parameter
from pipeline.publish import earlier as earlier_module
from pipeline.publish.earlier import EarlierFrame, earlier_frames
from pipeline.publish.run import publish
from pipeline.runner import STEP_REPORT, frame_pattern, run_chunk, run_fit
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext
from pipeline.tasks.definition import TaskDefinition
from pipeline.version import Version
from tests.unit.publish.conftest import FRAMES, SPACE, job_record, plate_frame

KEYS = {frame: f"key-{frame}" for frame in FRAMES}


def version(bench: Any, number: int) -> Version:
    first = bench.request.version
    label = f"v{number:03d}"
    name = first.name.rpartition("_")[0] + "_" + label
    return Version(first.shot, first.product, number, name, first.folder.parent / label)


def published(bench: Any, number: int = 1, **more: Any) -> Version:
    """Publish the bench's frames with a content key each."""
    bench.ask(version=version(bench, number), **{"content_keys": KEYS, **more})
    bench.run()
    return bench.request.version


def sidecar(of: Version) -> Path:
    return of.folder / f"{of.name}.json"


def rewrite(of: Version, change: Any) -> None:
    path = sidecar(of)
    record = json.loads(path.read_text())
    change(record)
    path.unlink()
    path.write_text(json.dumps(record))


# What earlier versions have


def test_a_sidecar_says_which_frame_has_which_key_and_what_is_known_of_it(bench) -> None:
    published(bench)
    found = earlier_frames(version(bench, 2))
    assert set(found) == set(KEYS.values())
    frame = found["key-1003"]
    assert frame.path == version(bench, 1).pattern.path(1003)
    assert frame.digest == pixel_hash(read_frame(frame.path))
    assert frame.quality == bench.request.quality[1003]
    assert (frame.layers, frame.changes_picture, frame.makes_alpha) == (("matte",), False, False)
    assert frame.is_whole()


def test_only_versions_before_this_one_count_and_the_newest_first(bench) -> None:
    published(bench, 1)
    published(bench, 2, content_keys={1001: "key-1001", 1002: "new"})
    published(bench, 4)
    assert earlier_frames(version(bench, 1)) == {}
    found = earlier_frames(version(bench, 3))
    assert found["key-1001"].path == version(bench, 2).pattern.path(1001)
    assert found["key-1005"].path == version(bench, 1).pattern.path(1005)
    assert found["new"].path == version(bench, 2).pattern.path(1002)
    assert {f.path.parent.name for f in earlier_frames(version(bench, 5)).values()} == {"v004", "v002"}


def test_only_twenty_versions_are_looked_at(bench) -> None:
    published(bench, 3)
    assert set(earlier_frames(version(bench, 23))) == set(KEYS.values())
    assert earlier_frames(version(bench, 24)) == {}


def test_a_version_of_four_digits_follows_one_of_three(bench) -> None:
    published(bench, 999)
    assert set(earlier_frames(version(bench, 1000))) == set(KEYS.values())


@pytest.mark.parametrize(
    "broken",
    [
        "", "{", "[]", "7", "null", '"text"', "{}", '{"content": 5}', '{"content": {}}', '{"content": []}',
        '{"content": "x", "report": {"frames": []}}', '{"content": {"keys": []}, "report": {"frames": []}}',
        '{"content": {"keys": {"1001": "k"}, "frames": {}}, "report": {"frames": [{"frame": 1001}]}}',
        '{"content": {"keys": {"x": "k"}, "frames": {"x": "y"}, "made": {}}, "report": {"frames": []}}',
        '{"content": {"keys": {"1001": "k"}, "frames": {"1001": "d"}}, "report": {"frames": [5]}}',
        '{"content": {"keys": {"1001": "k"}, "frames": {"1001": "d"}, "made": []}, "report": {"frames": [{"frame": 1001}]}}',
    ],
)  # fmt: skip
def test_a_broken_sidecar_is_passed_over_and_hides_no_other(bench, broken: str) -> None:
    published(bench, 1)
    published(bench, 2)
    sidecar(version(bench, 2)).write_text(broken)
    found = earlier_frames(version(bench, 3))
    assert {frame.path.parent.name for frame in found.values()} == {"v001"}
    assert set(found) == set(KEYS.values())


def test_a_sidecar_that_is_no_text_or_cannot_be_read_is_passed_over(bench) -> None:
    published(bench, 1)
    sidecar(version(bench, 1)).write_bytes(b"\xff\xfe\x00")
    assert earlier_frames(version(bench, 2)) == {}
    sidecar(version(bench, 1)).unlink()
    sidecar(version(bench, 1)).mkdir()
    assert earlier_frames(version(bench, 2)) == {}


def test_a_version_from_before_there_were_keys_has_nothing_to_offer(bench) -> None:
    published(bench, 1)
    rewrite(version(bench, 1), lambda record: record["content"].pop("keys"))
    assert earlier_frames(version(bench, 2)) == {}


def test_frames_made_of_another_plate_than_was_submitted_have_no_key(bench, hashes) -> None:
    """Their keys tell of the plate as it was: were it put back, these frames would be taken for its."""
    brighter = replace(plate_frame(1003).parts[0], header={"owner": "a newer render", **_stamps(1003)})
    write_frame(bench.request.plate.pattern.path(1003), Frame((brighter,)))
    made = replace(brighter, channels={**brighter.channels, "matte.A": bench.made(1003).main.channels["matte.A"]})
    write_frame(bench.request.produced[1003], Frame((made,)))
    bench.ask(content_keys=KEYS, input_hashes=hashes)
    assert any("1003 were replaced" in warning for warning in bench.run().warnings)
    assert earlier_frames(version(bench, 2)) == {}


def _stamps(frame: int) -> dict[str, Any]:
    header = plate_frame(frame).parts[0].header
    return {name: header[name] for name in ("framesPerSecond", "timeCode", "colorInteropID", "chromaticities")}


# Taking one over


@pytest.fixture
def known(bench) -> EarlierFrame:
    """A frame that was published."""
    published(bench)
    return earlier_frames(version(bench, 2))["key-1003"]


def test_a_frame_is_linked_not_copied(known: EarlierFrame, tmp_path: Path) -> None:
    target = tmp_path / "frame.1003.exr"
    assert known.take_over(target)
    assert target.samefile(known.path)
    assert known.path.stat().st_nlink >= 2


def test_a_file_that_lay_there_gives_way(known: EarlierFrame, tmp_path: Path) -> None:
    target = tmp_path / "frame.1003.exr"
    target.write_text("left by an attempt that died")
    assert known.take_over(target)
    assert target.samefile(known.path)


def changed_pixel(path: Path) -> None:
    frame = read_frame(path)
    plane = frame.main.channels["matte.A"].copy()
    plane[0, 0] = 1
    part = replace(frame.parts[0], channels={**frame.parts[0].channels, "matte.A": plane})
    path.unlink()
    write_frame(path, Frame((part,)))


def changed_header(path: Path) -> None:
    frame = read_frame(path)
    part = replace(frame.parts[0], header={**frame.parts[0].header, "owner": "somebody else"})
    path.unlink()
    write_frame(path, Frame((part,)))


def cut_off(path: Path) -> None:
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-40])


@pytest.mark.parametrize("harm", [changed_pixel, changed_header, cut_off, Path.unlink])
def test_a_file_that_is_not_what_was_published_is_not_taken_and_nothing_is_left(
    known: EarlierFrame, tmp_path: Path, harm: Any
) -> None:
    harm(known.path)
    target = tmp_path / "frame.1003.exr"
    assert not known.is_whole()
    assert not known.take_over(target)
    assert not target.exists()


def test_another_compression_of_the_same_frame_is_the_same_frame(known: EarlierFrame, tmp_path: Path) -> None:
    frame = read_frame(known.path)
    known.path.unlink()
    write_frame(known.path, frame, codec="piz")
    assert known.take_over(tmp_path / "frame.exr")


@pytest.mark.parametrize("why", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_no_link_can_be_made_the_frame_is_copied(
    known: EarlierFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    """Another device, a share without links, a file with too many of them."""

    def refuse(source: Any, target: Any) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(earlier_module.os, "link", refuse)
    target = tmp_path / "frame.1003.exr"
    assert known.take_over(target)
    assert not target.samefile(known.path)
    assert target.read_bytes() == known.path.read_bytes()


def test_another_device_really(known: EarlierFrame) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == known.path.stat().st_dev:
        pytest.skip("there is no second file system here")
    target = shm / f"platewright-test-{os.getpid()}.exr"
    try:
        assert known.take_over(target)
        assert pixel_hash(read_frame(target)) == known.digest
    finally:
        target.unlink(missing_ok=True)


def test_a_full_disk_is_an_error_and_not_a_frame_to_make_again(
    known: EarlierFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(earlier_module.os, "link", refuse)
    with pytest.raises(OSError, match="No space"):
        known.take_over(tmp_path / "frame.exr")


# In a chunk, from version to version


class _Knobs(Parameters):
    amount: float = parameter(0.5, help="How much.")


class Counting:
    """Gives a matte of the parameter's value, and notes what it was asked for."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.context: list[int] = []
        self.fits = 0

    def load(self, model: ModelRef) -> None: ...

    def unload(self) -> None: ...

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        self.fits += 1
        (shot.folder / "learnt").write_text("x")
        return {"loss": 0.25}

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        self.context = [*shot.context]
        for frame in shot.frames:
            self.made.append(frame)
            value = shot.at(frame).amount  # type: ignore[attr-defined]
            plane: NDArray[np.float32] = np.full(shot.linear(frame).shape[1:], value, np.float32)
            plane[0, frame % 7] = 1
            yield FrameResult(frame, {"matte": {"A": plane}}, {"confidence": 0.5 + frame % 7 / 100})


class Report:
    def __init__(self) -> None:
        self.done: list[int] = []
        self.fractions: list[float] = []

    def progress(self, fraction: float, note: str) -> None:
        self.fractions.append(fraction)

    def preview(self, frame: int, picture: NDArray[np.uint8]) -> None: ...

    def frame_done(self, frame: int) -> None:
        self.done.append(frame)


TASK = TaskDefinition(
    name="counting", label="C", help="h", parameters=_Knobs, runner="a:B", product="roto", context_frames=lambda _: 1
)
LEARNING = replace(TASK, fits=True)
WHOLE = Chunk(0, FRAMES, FrameRange())


class Shop:
    """Runs the task over the bench's plate and publishes what comes out."""

    def __init__(self, bench: Any, tmp_path: Path) -> None:
        self.bench = bench
        self.tmp_path = tmp_path
        self.runner = Counting()
        self.report = Report()

    def spec(self, **take: Any) -> JobSpec:
        plate = self.bench.request.plate
        hashes = {f: pixel_hash(read_frame(plate.pattern.path(f))) for f in FRAMES}
        one = TakeSpec(**{"index": 0, "name": "t", "seed": 1, "parameters": _Knobs().model_dump(), **take})
        return JobSpec(
            task="counting", studio="local", show="demo", sequence="", shot="sh010", plate=PlateSpec.of(plate, SPACE),
            frames=str(FRAMES), takes=(one,), codec="zips", publish_root=str(self.tmp_path), input_hashes=hashes,
        )  # fmt: skip

    def folder(self, name: str) -> Path:
        made = self.tmp_path / "attempts" / name
        made.mkdir(parents=True)
        return made

    def chunk(
        self, number: int, spec: JobSpec, definition: TaskDefinition = TASK, fit_folder: Path | None = None
    ) -> tuple[dict[str, Any], Path]:
        self.runner, self.report = Counting(), Report()
        folder = self.folder(f"chunk-{number}")
        facts = run_chunk(
            spec, spec.takes[0], definition, runner=self.runner, chunk=WHOLE, folder=folder, fit_folder=fit_folder,
            report=self.report, earlier=earlier_frames(version(self.bench, number)),
        )  # fmt: skip
        return facts, folder

    def fit(self, number: int, spec: JobSpec) -> tuple[dict[str, Any], Path, int]:
        runner, folder = Counting(), self.folder(f"fit-{number}")
        facts = run_fit(
            spec, spec.takes[0], LEARNING, runner=runner, frames=WHOLE, folder=folder, report=Report(),
            earlier=earlier_frames(version(self.bench, number)),
        )  # fmt: skip
        return facts, folder, runner.fits

    def put(self, number: int, facts: dict[str, Any], folder: Path) -> None:
        """Publish a chunk as the whole version."""
        pattern = frame_pattern(folder)
        self.bench.ask(
            version=version(self.bench, number), produced={f: pattern.path(f) for f in FRAMES},
            content_keys={int(f): key for f, key in facts["keys"].items()}, reused=FrameRange.parse(facts["reused"]),
            added_layers=tuple(facts["layers"]), quality={int(f): q for f, q in facts["frames"].items()},
            record=job_record(job=number),
        )  # fmt: skip
        publish(self.bench.request, progress=lambda fraction, note: None)


@pytest.fixture
def shop(bench, tmp_path: Path) -> Shop:
    """A shop whose v001 is published."""
    made = Shop(bench, tmp_path)
    facts, folder = made.chunk(1, made.spec())
    assert facts["reused"] == ""
    assert made.runner.made == [*FRAMES]
    made.put(1, facts, folder)
    return made


def test_the_same_request_again_makes_nothing_and_says_the_same(shop: Shop, bench) -> None:
    first = json.loads(sidecar(version(bench, 1)).read_text())
    facts, folder = shop.chunk(2, shop.spec())
    assert (shop.runner.made, facts["reused"]) == ([], "1001-1005")
    assert shop.report.done == [*FRAMES]
    assert shop.report.fractions[-1] == 1
    shop.put(2, facts, folder)
    second = json.loads(sidecar(version(bench, 2)).read_text())
    assert second["content"]["reused"] == "1001-1005"
    assert second["content"]["digest"] == first["content"]["digest"]
    assert second["report"]["frames"] == first["report"]["frames"]
    for frame in FRAMES:
        assert version(bench, 2).pattern.path(frame).samefile(version(bench, 1).pattern.path(frame))
    facts, _ = shop.chunk(3, shop.spec())
    assert facts["reused"] == "1001-1005", "and so on from the version that was linked itself"


def test_one_plate_frame_that_changed_is_made_again_with_those_that_read_it(shop: Shop, bench) -> None:
    source = plate_frame(1004)
    brighter = replace(
        source.parts[0],
        channels={n: p + np.float16(1) if n in "RGB" else p for n, p in source.parts[0].channels.items()},
    )
    write_frame(bench.request.plate.pattern.path(1004), Frame((brighter,)))
    facts, folder = shop.chunk(2, shop.spec())
    assert shop.runner.made == [1003, 1004, 1005]
    assert shop.runner.context == [1001, 1002], "what was linked may still be read"
    assert facts["reused"] == "1001-1002"
    assert list(facts["frames"]) == [str(f) for f in FRAMES]
    shop.put(2, facts, folder)
    made = read_frame(version(bench, 2).pattern.path(1004)).main
    assert made.channels["R"].tobytes() == brighter.channels["R"].tobytes()


def test_a_plate_header_that_changed_makes_its_frames_again_though_no_pixel_did(shop: Shop, bench) -> None:
    """Linked frames would carry the old header, and the publish would refuse them for it."""
    source = plate_frame(1002)
    renamed = replace(source.parts[0], header={**source.parts[0].header, "owner": "another studio"})
    write_frame(bench.request.plate.pattern.path(1002), Frame((renamed,)))
    facts, folder = shop.chunk(2, shop.spec())
    assert shop.runner.made == [1001, 1002, 1003]
    shop.put(2, facts, folder)
    assert read_frame(version(bench, 2).pattern.path(1002)).main.header["owner"] == "another studio"


def test_a_keyed_number_that_changed_on_one_frame_makes_that_one_and_those_that_read_it(shop: Shop) -> None:
    curve = {frame: 0.25 for frame in FRAMES}
    facts, folder = shop.chunk(2, shop.spec(curves={"amount": curve}))
    assert shop.runner.made == [*FRAMES]
    shop.put(2, facts, folder)
    shop.chunk(3, shop.spec(curves={"amount": {**curve, 1002: 0.5}}))
    assert shop.runner.made == [1001, 1002, 1003]


def test_an_earlier_file_that_was_changed_is_made_again(shop: Shop, bench) -> None:
    changed_pixel(version(bench, 1).pattern.path(1003))
    facts, folder = shop.chunk(2, shop.spec())
    assert shop.runner.made == [1003]
    shop.put(2, facts, folder)
    assert not version(bench, 2).pattern.path(1003).samefile(version(bench, 1).pattern.path(1003))


def test_frames_that_are_reused_are_what_would_have_been_made(shop: Shop, bench) -> None:
    _, linked = shop.chunk(2, shop.spec())
    for other in bench.root.rglob("*.json"):
        other.unlink()
    facts, anew = shop.chunk(3, shop.spec())
    assert facts["reused"] == ""
    for frame in FRAMES:
        made = [pixel_hash(read_frame(frame_pattern(folder).path(frame))) for folder in (linked, anew)]
        assert made[0] == made[1]


# With a fit that learns


@pytest.fixture
def learnt(shop: Shop) -> Shop:
    """v002 comes from a task that learns."""
    facts, folder, fits = shop.fit(2, shop.spec())
    assert fits == 1
    assert facts["loss"] == 0.25
    made, frames = shop.chunk(2, shop.spec(), LEARNING, folder)
    shop.put(2, made, frames)
    return shop


def test_nothing_is_learnt_when_every_frame_is_there(learnt: Shop) -> None:
    facts, folder, fits = learnt.fit(3, learnt.spec())
    assert (facts["reused"], fits) == (True, 0)
    made, _ = learnt.chunk(3, learnt.spec(), LEARNING, folder)
    assert made["reused"] == "1001-1005"


def test_one_frame_that_is_gone_makes_the_fit_learn_again_rather_than_fail_for_ever(learnt: Shop, bench) -> None:
    """The sidecar still promises the frame: a fit that trusts it leaves its chunks without what they need, each time anew."""
    changed_pixel(version(bench, 2).pattern.path(1003))
    facts, folder, fits = learnt.fit(3, learnt.spec())
    assert fits == 1
    assert "reused" not in facts
    made, frames = learnt.chunk(3, learnt.spec(), LEARNING, folder)
    assert learnt.runner.made == [1003]
    learnt.put(3, made, frames)


def test_a_frame_that_goes_between_fit_and_chunk_is_told_with_what_to_do(learnt: Shop, bench) -> None:
    _, folder, fits = learnt.fit(3, learnt.spec())
    assert fits == 0
    version(bench, 2).pattern.path(1003).unlink()
    with pytest.raises(RunnerError, match="frames 1003 were to be taken from an earlier version") as error:
        learnt.chunk(3, learnt.spec(), LEARNING, folder)
    assert "submit" in error.value.hint


def test_a_frame_without_a_key_is_made_and_learnt(learnt: Shop) -> None:
    spec = learnt.spec().model_copy(update={"input_hashes": {}})
    assert ContentKeys(spec, spec.takes[0], LEARNING).of(1001) is None
    facts, folder, fits = learnt.fit(3, spec)
    assert fits == 1
    made, _ = learnt.chunk(3, spec, LEARNING, folder)
    assert (made["keys"], made["reused"]) == ({}, "")
    assert learnt.runner.made == [*FRAMES]
    assert facts["loss"] == 0.25


def test_jobs_that_learn_the_same_share_what_was_learnt(learnt: Shop, tmp_path: Path) -> None:
    spec, kept = learnt.spec(seed=77), KeptFits(tmp_path / "fits", most=2)

    def fit(name: str, of: JobSpec) -> tuple[dict[str, Any], Path, int]:
        runner, folder = Counting(), learnt.folder(name)
        facts = run_fit(
            of, of.takes[0], LEARNING, runner=runner, frames=WHOLE, folder=folder, report=Report(), kept=kept
        )
        return facts, folder, runner.fits

    _, first, fits = fit("first", spec)
    assert fits == 1
    facts, second, fits = fit("second", learnt.spec(seed=77, parameters={"amount": 3.0}))
    assert (facts["shared"], facts["loss"], fits) == (True, 0.25, 0)
    assert (second / "learnt").samefile(first / "learnt")
    assert fit("third", learnt.spec(seed=78))[2] == 1, "another seed learns anew"
    shutil.rmtree(first)
    assert fit("fourth", spec)[2] == 0, "it is there though its job was cleared away"
    assert fit("fifth", learnt.spec(seed=79))[2] == 1
    assert fit("sixth", learnt.spec(seed=78))[2] == 1, "the one unused for longest has made room"
    assert len([*(tmp_path / "fits").iterdir()]) == 2, "and nothing else was left"


def test_a_kept_fit_that_can_not_be_linked_is_learnt_again(learnt: Shop, tmp_path: Path) -> None:
    spec, kept = learnt.spec(seed=77), KeptFits(tmp_path / "fits")
    runner = Counting()
    for name in ("first", "second"):
        folder = learnt.folder(name)
        if name == "second":
            (folder / "learnt").write_text("in the way")
        run_fit(spec, spec.takes[0], LEARNING, runner=runner, frames=WHOLE, folder=folder, report=Report(), kept=kept)
    assert runner.fits == 2
    assert (folder / STEP_REPORT).is_file()


def test_fits_that_can_not_be_kept_stop_nobody(learnt: Shop, tmp_path: Path) -> None:
    (tmp_path / "fits").write_text("a file where the folder should be")
    spec, runner = learnt.spec(seed=77), Counting()
    run_fit(
        spec, spec.takes[0], LEARNING, runner=runner, frames=WHOLE, folder=learnt.folder("first"), report=Report(),
        kept=KeptFits(tmp_path / "fits"),
    )  # fmt: skip
    assert runner.fits == 1

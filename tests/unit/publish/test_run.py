"""A publish as a whole: what lies in the folder, what pyblish would get wrong, and that it comes whole or not at all."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import opentimelineio as otio
import pyblish.api
import pyblish.logic
import pytest

from pipeline.errors import Fault, ParameterError, PublishError, StorageError
from pipeline.frames import FrameRange
from pipeline.media.exr import pixel_hash, read_frame
from pipeline.publish import integrate
from pipeline.publish.inspection import inspect_frames
from pipeline.publish.plugin import EXTRACT, VALIDATE, ContextPlugin, InstancePlugin, publication_of
from pipeline.publish.run import PLUGINS, PublishRefused, publish
from pipeline.publish.values import ProxySettings, proxy_path
from pipeline.tasks.contract import Cancelled


def quiet(fraction: float, note: str) -> None:
    """Nobody is told."""


def test_a_published_version_holds_its_frames_and_their_provenance_and_nothing_else(bench) -> None:
    published = bench.run()
    version = bench.request.version
    names = [f"{version.name}.{frame}.exr" for frame in bench.request.frames]
    assert sorted(p.name for p in version.folder.iterdir()) == sorted([*names, f"{version.name}.json"])
    assert [p.name for p in version.folder.parent.iterdir()] == ["v001"]
    assert not (bench.request.scratch / "publish").exists()
    for frame in bench.request.frames:
        assert version.pattern.path(frame).samefile(bench.request.produced[frame])  # a link, not a second copy
    assert (published.name, published.folder, published.frames) == (version.name, version.folder, bench.request.frames)
    assert published.colorspace == "lin_rec709_scene"
    assert published.otio is None


def test_the_sidecar_tells_what_was_made_of_what(bench) -> None:
    published = bench.run()
    record = json.loads(published.sidecar.read_text())
    assert record["schema"] == "platewright.provenance/1"
    assert (record["job"], record["seed"], record["parameters"]) == (7, 11, {"feather_px": 0.0})
    assert record["model"] == {"name": "roto@production"}
    assert record["version"]["frames"] == "1001-1005"
    for frame, digest in record["content"]["frames"].items():
        assert digest == pixel_hash(read_frame(bench.request.version.pattern.path(int(frame))))


def test_the_report_names_the_least_sure_frame_without_a_key(bench) -> None:
    quality = {f: {"confidence": c} for f, c in zip(range(1001, 1006), (0.1, 0.9, 0.4, 0.8, 0.2), strict=True)}
    bench.ask(quality=quality)
    report = bench.run().report
    assert [row["confidence"] for row in report["frames"]] == [0.1, 0.9, 0.4, 0.8, 0.2]
    assert report["next_key"] == 1003  # 1001 and 1005 are less sure, and keyed already
    assert set(report["frames"][1]["flicker"]) == {"matte"}
    assert report["flicker"]["matte"]["worst"] in (1002, 1003, 1004)


def test_progress_rises_to_the_last_word_before_the_rename(bench) -> None:
    told: list[float] = []
    publish(bench.request, progress=lambda fraction, note: told.append(fraction))
    assert told == sorted(told)
    assert len(told) == len(bench.request.frames) + 1
    assert 0 < told[0] <= told[-1] < 1


def test_a_job_cancelled_at_any_step_leaves_nothing(bench) -> None:
    before = set(threading.enumerate())  # other tests of this process may have threads of their own
    for stop_at in range(len(bench.request.frames) + 1):
        seen: list[float] = []

        def stop(fraction: float, note: str, seen: list[float] = seen, stop_at: int = stop_at) -> None:
            if len(seen) == stop_at:
                raise Cancelled
            seen.append(fraction)

        with pytest.raises(Cancelled):
            publish(bench.request, progress=stop)
        assert bench.left() == []
    assert set(threading.enumerate()) <= before


class BrokenExtractor(InstancePlugin):
    order = EXTRACT + 0.1
    label = "broken extractor"
    families = ["plate"]  # noqa: RUF012 - pyblish's own declaration

    def process(self, instance: Any) -> None:
        """Fails as code fails."""
        raise ZeroDivisionError("of its own making")


def test_a_failing_extractor_leaves_nothing_although_pyblish_would_go_on(bench) -> None:
    with pytest.raises(PublishError, match="broken extractor failed: ZeroDivisionError: of its own making"):
        publish(bench.request, progress=quiet, plugins=(*PLUGINS, BrokenExtractor))
    assert bench.left() == []
    # The trap is real: without the registered test pyblish runs the integrator after that failure.
    assert pyblish.logic.default_test(nextOrder=3, ordersWithError={2.1}) is None


class BrokenCollector(ContextPlugin):
    order = 0.2
    label = "broken collector"

    def process(self, context: Any) -> None:
        """Says what it can't do."""
        raise ParameterError("no view of that name", "choose another")


def test_a_failing_collector_stops_everything_after_it(bench) -> None:
    reached: list[str] = []

    class Later(ContextPlugin):
        order = VALIDATE
        label = "later"

        def process(self, context: Any) -> None:
            """Must not be reached."""
            reached.append("later")

    with pytest.raises(ParameterError, match="no view of that name"):
        publish(bench.request, progress=quiet, plugins=(*PLUGINS, BrokenCollector, Later))
    assert reached == []
    assert bench.left() == []


def test_a_plug_in_that_would_be_skipped_in_silence_is_an_error(bench) -> None:
    class Elsewhere(InstancePlugin):
        order = VALIDATE
        label = "elsewhere"
        families = ["plate"]  # noqa: RUF012
        targets = ["studio-b"]  # noqa: RUF012

        def process(self, instance: Any) -> None:
            """Never runs: its target isn't asked for."""

    with pytest.raises(PublishError, match="Elsewhere did not run"):
        publish(bench.request, progress=quiet, plugins=(*PLUGINS[:-1], Elsewhere))
    assert bench.left() == []


def test_a_studios_own_validator_is_heard_with_the_others(bench) -> None:
    class Naming(InstancePlugin):
        order = VALIDATE
        label = "naming"
        families = ["plate"]  # noqa: RUF012

        def process(self, instance: Any) -> None:
            """Refuses by the request that travels along."""
            raise PublishError(f"{publication_of(instance).request.version.name} lacks a sequence", "name one")

    with pytest.raises(PublishRefused) as caught:
        publish(bench.request, progress=quiet, plugins=(*PLUGINS, Naming))
    assert caught.value.faults == (Fault("naming", "demo_sh010_roto_v001 lacks a sequence", "name one"),)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.hint, again.faults) == (caught.value.message, "name one", caught.value.faults)


def test_pyblishs_global_state_and_what_others_registered_stay_as_they_were(bench) -> None:
    class Foreign(pyblish.api.ContextPlugin):
        order = VALIDATE

        def process(self, context: Any) -> None:
            """A plug-in of another tool in this process."""
            raise RuntimeError("must not run here")

    before = pyblish.logic.registered_test()
    pyblish.api.register_plugin(Foreign)
    try:
        bench.run()
    finally:
        pyblish.api.deregister_plugin(Foreign)
    assert pyblish.logic.registered_test() is before


def test_two_versions_can_be_published_at_once(bench) -> None:
    requests = [
        replace(
            bench.request,
            version=replace(
                bench.request.version, number=n, name=f"v{n}", folder=bench.request.version.folder.with_name(f"v00{n}")
            ),
            scratch=bench.request.scratch.with_name(f"scratch{n}"),
        )
        for n in (1, 2, 3)
    ]
    done: list[str] = []
    threads = [threading.Thread(target=lambda r=r: done.append(publish(r, progress=quiet).name)) for r in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["v1", "v2", "v3"]


# In its place


def test_the_same_job_asked_again_gets_the_version_that_is_there(bench) -> None:
    first = bench.run()
    times = {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    for path in bench.request.produced.values():
        path.unlink()  # nothing is looked at again
    assert bench.run() == first
    assert {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()} == times


def test_a_version_whose_frames_were_taken_away_is_not_called_published(bench) -> None:
    folder = bench.run().folder
    (folder / "demo_sh010_roto_v001.1003.exr").unlink()
    with pytest.raises(PublishError, match="exists already"):
        bench.run()


def test_a_record_that_names_no_job_is_refused_before_anything_is_done(bench) -> None:
    bench.ask(record={})
    with pytest.raises(PublishError, match="names no job"):
        bench.run()
    assert bench.left() == []


@pytest.mark.parametrize("other", [{"job": 8}, {"take": {"index": 1}}], ids=["job", "take"])
def test_another_jobs_or_takes_version_is_never_overwritten(bench, other) -> None:
    bench.run()
    before = bench.left()
    bench.ask(record={**bench.request.record, **other})
    with pytest.raises(PublishError, match="exists already") as caught:
        bench.run()
    assert not isinstance(caught.value, PublishRefused)
    assert bench.left() == before
    assert json.loads((bench.request.version.folder / "demo_sh010_roto_v001.json").read_text())["job"] == 7


def test_a_folder_with_anything_in_it_is_refused_and_an_empty_one_is_filled(bench) -> None:
    folder: Path = bench.request.version.folder
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(PublishError, match="exists already"):
        bench.run()
    assert bench.left()[-1].endswith("v001/notes.txt")
    (folder / "notes.txt").unlink()
    assert bench.run().folder == folder


def test_a_file_or_link_in_the_versions_place_is_refused(bench) -> None:
    folder: Path = bench.request.version.folder
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")
    with pytest.raises(PublishError, match="exists already"):
        bench.run()
    folder.unlink()
    folder.symlink_to(bench.request.scratch.with_name("nowhere"))
    with pytest.raises(PublishError, match="exists already"):
        bench.run()
    assert folder.is_symlink()


def test_a_rival_that_renames_first_wins_and_is_not_touched(bench, monkeypatch) -> None:
    sync = integrate._sync

    def rival_comes(staging: Path) -> None:
        sync(staging)
        bench.request.version.folder.mkdir()
        (bench.request.version.folder / "theirs.exr").write_text("theirs")

    monkeypatch.setattr(integrate, "_sync", rival_comes)
    with pytest.raises(PublishError, match="exists already"):
        bench.run()
    assert [p.name for p in bench.request.version.folder.parent.rglob("*")] == ["v001", "theirs.exr"]


def test_what_a_killed_try_left_is_removed_and_another_versions_is_not(bench) -> None:
    parent: Path = bench.request.version.folder.parent
    for name in (".v001.1-aa.staging", ".v001.2-bb.staging", ".v002.3-cc.staging"):
        (parent / name / "proxy").mkdir(parents=True)
        (parent / name / "proxy" / "x.jpg").write_text("half")
    bench.run()
    assert sorted(p.name for p in parent.iterdir()) == [".v002.3-cc.staging", "v001"]


def _publish_and_die(request: Any, step: str) -> None:
    """In a process of its own: die by SIGKILL just before `step`, or just after the rename."""

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if step == "linking":
        link, count = os.link, [0]

        def dying_link(source: Any, target: Any) -> None:
            count[0] += 1
            if count[0] == 3:
                die()
            link(source, target)

        integrate.os.link = dying_link
    elif step == "after the rename":
        integrate._sync_folder = _dying_at(request.version.folder.parent, die)
    else:
        setattr(integrate, step, die)
    publish(request, progress=quiet)


def _dying_at(folder: Path, die: Any) -> Any:
    """The parent's sync comes right after the rename."""
    sync = integrate._sync_folder

    def wrapped(path: Path) -> None:
        if path == folder:
            die()
        sync(path)

    return wrapped


@pytest.mark.parametrize("step", ["_build", "linking", "_sync", "_rename", "after the rename"])
def test_a_publish_killed_at_any_step_is_nothing_or_whole_and_the_next_try_completes_it(bench, step) -> None:
    process = multiprocessing.get_context("fork").Process(target=_publish_and_die, args=(bench.request, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    folder: Path = bench.request.version.folder
    assert folder.exists() == (step == "after the rename")
    published = bench.run()
    assert len(list(published.folder.glob("*.exr"))) == len(bench.request.frames)
    assert [p.name for p in folder.parent.iterdir()] == ["v001"]
    assert not (bench.request.scratch / "publish").exists()
    for frame in bench.request.frames:
        read_frame(bench.request.version.pattern.path(frame))


@pytest.mark.parametrize("number", ["ENOSPC", "EROFS", "EDQUOT", "EIO"])
def test_a_disk_that_fails_is_a_storage_error_and_leaves_nothing(bench, monkeypatch, number) -> None:
    def full(path: Path) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(integrate, "_sync_file", full)
    with pytest.raises(StorageError):
        bench.run()
    assert bench.left() == []


def test_a_root_that_is_a_file_is_a_storage_error(bench) -> None:
    bench.root.write_text("no folder")
    with pytest.raises(StorageError):
        bench.run()
    assert bench.root.read_text() == "no folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_root_is_a_storage_error(bench) -> None:
    bench.root.mkdir()
    bench.root.chmod(0o500)
    with pytest.raises(StorageError):
        bench.run()


def test_frames_are_copied_where_links_do_not_reach(bench, monkeypatch) -> None:
    def no_link(source: Any, target: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(integrate.os, "link", no_link)
    bench.run()
    for frame in bench.request.frames:
        placed, made = bench.request.version.pattern.path(frame), bench.request.produced[frame]
        assert not placed.samefile(made)
        assert placed.read_bytes() == made.read_bytes()


def test_parents_that_others_use_survive_a_failed_publish(bench, monkeypatch) -> None:
    (bench.root / "demo").mkdir(parents=True)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(integrate, "_sync_file", full)
    with pytest.raises(StorageError):
        bench.run()
    assert bench.left() == ["demo"]


# Proxies and the cut


def test_review_proxies_come_with_the_version(bench, tmp_path) -> None:
    bench.ask(proxies=ProxySettings(cache=tmp_path / "cache", height=12))
    folder = bench.run().folder
    for frame in bench.request.frames:
        for kind in ("beauty", "matte", "overlay"):
            picture = cv2.imread(str(proxy_path(folder, kind, frame)), cv2.IMREAD_UNCHANGED)
            assert picture.shape[:2] == (12, round(28 * 12 / 20))  # the display window, without the overscan
            assert (picture.ndim == 2) == (kind == "matte")
    shown = cv2.imread(str(proxy_path(folder, "matte", 1003)), cv2.IMREAD_UNCHANGED)
    assert shown.max() > 200
    assert shown.min() < 60
    beauty, overlay = (cv2.imread(str(proxy_path(folder, k, 1003))).astype(int) for k in ("beauty", "overlay"))
    tint = np.abs(beauty - overlay).max(axis=-1)
    assert tint[shown > 250].mean() > 5 * max(1, tint[shown < 5].mean())


def test_a_view_that_is_not_there_refuses_the_publish_with_those_that_are(bench, tmp_path) -> None:
    bench.ask(proxies=ProxySettings(cache=tmp_path / "cache", view="Nope"))
    with pytest.raises(ParameterError, match="Nope"):
        bench.run()
    assert bench.left() == []


def cut_of(bench: Any, tmp_path: Path) -> Path:
    rate = 24000 / 1001
    media = otio.schema.ImageSequenceReference(
        target_url_base=str(bench.request.plate.pattern.folder) + "/",
        name_prefix="sh010.",
        name_suffix=".exr",
        start_frame=1001,
        rate=rate,
        frame_zero_padding=4,
        available_range=otio.opentime.TimeRange(
            otio.opentime.RationalTime(1001, rate), otio.opentime.RationalTime(5, rate)
        ),
    )
    clip = otio.schema.Clip(
        name="sh010",
        media_reference=media,
        source_range=otio.opentime.TimeRange(
            otio.opentime.RationalTime(1002, rate), otio.opentime.RationalTime(3, rate)
        ),
    )
    timeline = otio.schema.Timeline("cut")
    timeline.tracks.append(otio.schema.Track("V1", [clip], kind=otio.schema.TrackKind.Video))
    path = tmp_path / "cut.otio"
    otio.adapters.write_to_file(timeline, str(path))
    return path


def test_the_cut_is_written_back_into_a_copy_that_plays_the_version(bench, tmp_path) -> None:
    cut = cut_of(bench, tmp_path)
    before = cut.read_bytes()
    bench.ask(cut=(cut, "sh010"))
    published = bench.run()
    assert cut.read_bytes() == before
    assert published.otio == bench.request.version.folder / "demo_sh010_roto_v001.otio"
    clip = otio.adapters.read_from_file(str(published.otio)).find_clips()[0]
    assert clip.media_reference.name_prefix == "demo_sh010_roto_v001."
    assert Path(clip.media_reference.target_url_base) == bench.request.version.folder
    told = clip.media_reference.metadata["platewright"]
    assert (told["job"], told["sidecar"]) == (7, "demo_sh010_roto_v001.json")


def test_a_clip_that_left_the_cut_stops_the_publish(bench, tmp_path) -> None:
    bench.ask(cut=(cut_of(bench, tmp_path), "sh999"))
    with pytest.raises(Exception, match="sh999"):
        bench.run()
    assert bench.left() == []


def test_a_long_shot_needs_the_memory_of_a_few_frames(bench) -> None:
    """Results that wait are mattes of 8 bits: at no time more of them than threads and what they read ahead."""
    bench.ask(frames=FrameRange.span(1001, 1005), threads=1)
    started: list[int] = []
    produced = bench.request.produced

    class Counting(dict[int, Path]):
        def __getitem__(self, frame: int) -> Path:
            started.append(frame)
            return super().__getitem__(frame)

    bench.ask(produced=Counting(produced))
    looks = inspect_frames(bench.request, proxies=None, each=lambda done: None)
    next(looks)
    assert max(started) <= 1001 + 1 + bench.request.threads
    looks.close()

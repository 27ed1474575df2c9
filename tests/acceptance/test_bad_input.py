"""Bad input is refused with what, where and what to do; all of a submission's faults at once; nothing is written."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from integrations._shared.client import Client, DispatcherError
from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, read_frame, write_frame
from pipeline.plate import Window
from tests.acceptance.farmhouse import Farmhouse, parsed
from tests.acceptance.refusals import refusal, told
from tests.plates import SmallPlate, write_cut, write_small_plate


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farmhouse]:
    """One dispatcher for all; it must take nothing of what these tests send."""
    farmhouse = Farmhouse(tmp_path_factory.mktemp("house"))
    farmhouse.serve()
    yield farmhouse
    farmhouse.close()


@pytest.fixture
def plate(tmp_path: Path) -> SmallPlate:
    return write_small_plate(tmp_path, count=6, width=48, height=32)


def rewrite(path: Path, change: Callable[[Part], Part]) -> None:
    write_frame(path, Frame((change(read_frame(path).main),)))


def test_missing_frames(house: Farmhouse, plate: SmallPlate) -> None:
    plate.pattern.path(1003).unlink()
    plate.pattern.path(1004).unlink()
    told(refusal(house, plate.request()), "plate", "1003-1004")
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "plate", "1003-1004")


def test_a_doubled_frame(house: Farmhouse, plate: SmallPlate) -> None:
    shutil.copy(plate.pattern.path(1002), plate.pattern.folder / "sh010.01002.exr")
    told(refusal(house, plate.request()), "plate", "1002")


def test_a_truncated_exr(house: Farmhouse, plate: SmallPlate) -> None:
    path = plate.pattern.path(1004)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told(refusal(house, plate.request()), "plate", "1004")


def test_a_tail_zeroed_exr(house: Farmhouse, plate: SmallPlate) -> None:
    path = plate.pattern.path(1004)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 3 // 4] + bytes(len(raw) - len(raw) * 3 // 4))
    told(refusal(house, plate.request()), "plate", "1004")


def test_a_text_file_named_exr(house: Farmhouse, plate: SmallPlate) -> None:
    plate.pattern.path(1002).write_text("not a picture")
    told(refusal(house, plate.request()), "plate", "1002")


def test_an_exr_that_declares_74_gib(house: Farmhouse, plate: SmallPlate) -> None:
    path = plate.pattern.path(1002)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    raw[place : place + 16] = struct.pack("<4i", 0, 0, 99_999, 99_999)
    path.write_bytes(bytes(raw))
    told(refusal(house, plate.request()), "plate", "1002")


def test_nan_and_inf_in_the_plate(house: Farmhouse, plate: SmallPlate) -> None:
    def spoil(part: Part) -> Part:
        channels = {name: plane.copy() for name, plane in part.channels.items()}
        channels["G"][3, 5] = np.nan
        channels["B"][4, 6] = np.inf
        return Part(part.name, part.header, channels, part.data_window, part.display_window)

    rewrite(plate.pattern.path(1005), spoil)
    told(refusal(house, plate.request()), "plate", "1005")


def test_sizes_that_change_in_the_middle(house: Farmhouse, plate: SmallPlate) -> None:
    def crop(part: Part) -> Part:
        channels = {name: np.ascontiguousarray(plane[:-2]) for name, plane in part.channels.items()}
        window = Window.of_size(48, 30)
        return Part(part.name, part.header, channels, window, window)

    rewrite(plate.pattern.path(1003), crop)
    told(refusal(house, plate.request()), "plate", "1003")


def test_a_key_outside_the_range(house: Farmhouse, plate: SmallPlate) -> None:
    request = plate.request(keys=[{"frame": 2000, "path": str(plate.keys[1001])}])
    told(refusal(house, request), "key matte:2000", "1001-1006")


def test_a_key_of_another_size(house: Farmhouse, plate: SmallPlate) -> None:
    window = Window.of_size(20, 10)
    write_frame(plate.keys[1001], Frame((Part("", {}, {"A": np.ones((10, 20), np.float32)}, window, window),)))
    told(refusal(house, plate.request()), "key matte:1001", "48")


def test_an_empty_key(house: Farmhouse, plate: SmallPlate) -> None:
    window = Window.of_size(48, 32)
    write_frame(plate.keys[1001], Frame((Part("", {}, {"A": np.zeros((32, 48), np.float32)}, window, window),)))
    told(refusal(house, plate.request()), "key matte:1001", "empty")


def test_no_key_and_a_key_given_twice(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, plate.request(keys=[])), "keys", "at least 1")
    twice = [{"frame": 1001, "path": str(plate.keys[1001])}] * 2
    told(refusal(house, plate.request(keys=twice)), "key matte:1001", "twice")


def test_an_unknown_clip(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh999")), "cut", "sh999", "sh010")


def test_two_clips_of_one_name(house: Farmhouse, plate: SmallPlate) -> None:
    import opentimelineio as otio

    timeline = otio.adapters.read_from_file(str(plate.cut))
    timeline.tracks[0].append(timeline.tracks[0][0].deepcopy())
    otio.adapters.write_to_file(timeline, str(plate.cut))
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "cut", "sh010")


def test_a_zero_length_clip(house: Farmhouse, plate: SmallPlate) -> None:
    write_cut(plate.cut, plate.pattern, plate.frames, handles=3)
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "cut", "length")


def test_a_cut_that_never_meets_the_plate(house: Farmhouse, plate: SmallPlate) -> None:
    write_cut(plate.cut, plate.pattern, FrameRange.span(86400, 86420))
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "clip sh010", "86401")


def test_a_cut_of_another_rate(house: Farmhouse, plate: SmallPlate) -> None:
    write_cut(plate.cut, plate.pattern, plate.frames, rate=25)
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "rate", "24", "25")


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b'{"OTIO_SCHEMA": "Timeline.1"', b"[" * 300_000])
def test_a_broken_or_hostile_timeline(house: Farmhouse, plate: SmallPlate, content: bytes) -> None:
    plate.cut.write_bytes(content)
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "cut")


def test_a_timeline_nested_200_000_deep_costs_nobody_anything(house: Farmhouse, plate: SmallPlate) -> None:
    deep = 200_000
    plate.cut.write_text('{"OTIO_SCHEMA":"Stack.1","children":[' * deep + "]}" * deep)
    told(refusal(house, plate.request(cut=str(plate.cut), clip="sh010")), "cut")
    assert house.client().get("/healthz")["ok"]


def test_all_faults_are_told_at_once(house: Farmhouse, plate: SmallPlate) -> None:
    plate.pattern.path(1003).unlink()
    plate.pattern.path(1002).write_text("not a picture")
    request = plate.request(
        cut=str(plate.folder / "nothing.otio"),
        clip="x",
        parameters={"iterations": -1, "colour": "red"},
        shot="a/b",
        colorspace="my log",
    )
    request["keys"] = [{"frame": 2000, "path": str(plate.folder / "nothing.exr")}]
    faults = refusal(house, request)
    for where in ("cut", "parameter iterations", "parameter colour", "shot", "key matte:2000"):
        told(faults, where)
    told(refusal(house, plate.request(colorspace="my log")), "plate", "my log")


def test_a_plate_that_is_not_there(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, plate.request(plate=str(plate.folder / "gone.####.exr"))), "plate", "gone")
    told(refusal(house, plate.request(plate="relative.####.exr")), "plate", "absolute")
    told(refusal(house, plate.request(plate="file:///etc/passwd")), "plate", "URL")


def test_an_unknown_task_names_the_known_ones(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, plate.request(task="rotoscope")), "task", "roto")


def test_an_output_that_is_a_file_or_too_full(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told(refusal(house, plate.request(out=str(tmp_path / "file" / "out"))), "out", "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_an_output_disk_that_is_too_small(house: Farmhouse, plate: SmallPlate, tmp_path: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        told(refusal(house, plate.request(out=str(small))), "out", "free")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_path_outside_the_roots(tmp_path: Path, plate: SmallPlate) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (plate.folder / "link").symlink_to("/etc")
    house = Farmhouse(other, PLATEWRIGHT_ROOTS=f"{plate.folder}:{other}")
    try:
        house.serve()
        told(refusal(house, plate.request(plate="/etc/####.exr")), "plate", "outside")
        told(refusal(house, plate.request(plate=f"{plate.folder}/plate/../../../../etc/passwd")), "plate", "outside")
        told(refusal(house, plate.request(plate=f"{plate.folder}/link/hosts")), "plate", "outside")
        told(refusal(house, plate.request(out="/etc/out")), "out", "outside")
    finally:
        house.close()


def test_a_wrong_token_a_foreign_page_and_a_rebound_name_are_turned_away(house: Farmhouse) -> None:
    with Client(house.url, "nonsense") as stranger, pytest.raises(DispatcherError) as wrong:
        stranger.get("/v1/jobs")
    assert wrong.value.status == 401
    with pytest.raises(DispatcherError) as foreign:
        house.client().request("POST", "/v1/jobs", {}, headers={"Origin": "http://evil.example"})
    assert foreign.value.status == 403
    with pytest.raises(DispatcherError) as rebound:
        house.client().request("GET", "/v1/jobs", headers={"Host": "evil.example"})
    assert rebound.value.status == 421


def test_a_body_of_the_wrong_shape_or_size(house: Farmhouse, plate: SmallPlate) -> None:
    told(refusal(house, {"task": "roto"}), "plate")
    told(refusal(house, plate.request(colour="red")), "colour")
    with pytest.raises(DispatcherError) as large:
        house.submit({"task": "x" * (9 << 20), "plate": "y"})
    assert large.value.status in (0, 413)


def test_the_command_line_tells_the_same_with_its_exit_codes(house: Farmhouse, plate: SmallPlate) -> None:
    submit = ["submit", "roto", "--plate", str(plate.pattern)]
    refused = house.plates(*submit, "--key", f"2000={plate.keys[1001]}", "--json")
    assert refused.returncode == 3
    assert "key matte:2000" in refused.stderr
    assert parsed(refused)["faults"]
    assert house.plates(*submit, "--key", "nonsense").returncode == 3
    assert house.plates(*submit, "--iterations", "-5").returncode == 2
    assert house.plates(*submit, *plate.key_arguments(), PLATEWRIGHT_TOKEN="wrong").returncode == 1
    dead = house.plates(*submit, *plate.key_arguments(), PLATEWRIGHT_URL="http://127.0.0.1:9")
    assert dead.returncode == 4
    assert "plates serve" in dead.stderr
    whole = house.plates(
        "run",
        "roto",
        "--plate",
        str(plate.pattern),
        "--key",
        f"2000={plate.keys[1001]}",
        "--out",
        str(plate.folder / "out"),
    )
    assert whole.returncode == 3
    assert not (plate.folder / "out").exists()

"""Weights files are told by their bytes; none of them is run."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ModelError
from pipeline.models.files import check_sha256, read_header, refuse_pickle, sha256_of
from tests import tiny


def safetensors(path: Path, entries: dict[str, Any], room: int) -> Path:
    """A file of that header, followed by `room` zero bytes."""
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(room))
    return path


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_whole_header_is_read(tmp_path: Path) -> None:
    path = safetensors(
        tmp_path / "a.safetensors",
        {
            "__metadata__": {"who": "us"},
            "b": entry(8, 20, [3]),
            "a": entry(0, 8, [2, 1]),
            "none": entry(20, 20, [0, 4]),
        },
        20,
    )
    header = read_header(path)
    assert {name: t.shape for name, t in header.tensors.items()} == {"a": (2, 1), "b": (3,), "none": (0, 4)}
    assert header.metadata == {"who": "us"}


@pytest.mark.parametrize(
    ("entries", "room", "reason"),
    [
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12, "overlap"),
        ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20, "gaps"),
        ({"a": entry(0, 8, [2])}, 12, "end at 8 of 12"),
        ({"a": entry(0, 8, [2])}, 4, "end at 8 of 4"),
        ({"a": entry(0, 8, [3])}, 8, "claims 8 bytes"),
        ({"a": entry(8, 0, [2])}, 8, "claims -8 bytes"),
        ({"a": entry(0, 8, [-2])}, 8, "shape"),
        ({"a": entry(0, 8, [2], "OBJECT")}, 8, "OBJECT"),
        ({"a": entry(0, 8, [True, 2])}, 8, "shape"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "offsets"),
        ({"a": [1, 2, 3]}, 8, "offsets"),
        ({"__metadata__": {"a": 1}}, 0, "metadata"),
        ({"a": entry(0, 0, [10**200, 0])}, 1, "end at 0 of 1"),
    ],
)
def test_a_header_whose_sums_dont_come_out_is_refused(
    tmp_path: Path, entries: dict[str, Any], room: int, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        read_header(safetensors(tmp_path / "a.safetensors", entries, room))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "begin"),
        (b"\x08\x00\x00", "begin"),
        ((2**63 - 1).to_bytes(8, "little") + b"{}", "claims 9223372036854775807 bytes"),
        ((40 << 20).to_bytes(8, "little") + b"{" + bytes(41 << 20), "claims 41943040 bytes"),
        ((3).to_bytes(8, "little") + b"{}}", "no JSON"),
        ((20_002).to_bytes(8, "little") + b'{"a":' + b"[" * 19_997, "no JSON"),
        ((16).to_bytes(8, "little") + b'{"a":{} , "a":1}', "twice"),
    ],
)
def test_a_hostile_header_is_refused_before_it_costs_anything(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        read_header(path)


class Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".pkl", ".PT", ".safetensors", ".onnx", ""])
def test_a_pickle_is_refused_under_any_name_and_never_run(tmp_path: Path, suffix: str) -> None:
    path, mark = tmp_path / f"weights{suffix}", tmp_path / "ran"
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps(Bomb(mark), protocol=protocol))
        with pytest.raises(ModelError, match="can hold code"):
            refuse_pickle(path)
    tiny.pickled(path)
    with pytest.raises(ModelError, match="can hold code"):
        refuse_pickle(path)
    assert not mark.exists()


def test_an_exported_program_is_refused_under_any_name(tmp_path: Path) -> None:
    path = tiny.exported(tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"\.pt2"):
        refuse_pickle(path)
    with pytest.raises(ModelError, match="zip"):
        refuse_pickle(path.rename(tmp_path / "net.safetensors"))


def test_a_files_hash_is_its_contents_and_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert check_sha256(path, digest.upper()) == digest
    with pytest.raises(ModelError, match="expected 000000000000"):
        check_sha256(path, "0" * 64)


def test_a_folders_hash_is_that_of_what_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "unet" / "model.safetensors").write_bytes(b"x")
    first = sha256_of(folder)
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in (("config.json", b"{}"), ("unet/model.safetensors", b"x"))
    )
    assert first == hashlib.sha256(lines.encode()).hexdigest()
    (folder / "README.md").write_text("read me")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{}")
    assert sha256_of(folder) == first
    assert sha256_of(folder.rename(tmp_path / "moved")) == first, "where it lies doesn't count"
    (tmp_path / "moved" / "unet" / "model.safetensors").write_bytes(b"y")
    assert sha256_of(tmp_path / "moved") != first


def test_links_may_lead_to_a_caches_blobs_and_nowhere_else(tmp_path: Path) -> None:
    snapshot = tmp_path / "model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "model" / "blobs").mkdir()
    (tmp_path / "model" / "blobs" / "1234").write_text("{}")
    (snapshot / "config.json").symlink_to(Path("../../blobs/1234"))
    assert len(sha256_of(snapshot)) == 64
    (tmp_path / "elsewhere.json").write_text("{}")
    (snapshot / "more.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelError, match="outside of the model"):
        sha256_of(snapshot)


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ModelError, match="outside of the model"):
        sha256_of(tmp_path)

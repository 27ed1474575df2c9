"""Files of shapes that lie, overflow, nest or were cut off: each refused with a reason, none hangs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import KeyframeError, PipelineError, StorageError
from pipeline.shapes import neutral, read
from pipeline.shapes.read import read_shapes
from pipeline.shapes.write import WRITERS
from tests.unit.shapes.made import example

NK = WRITERS[".nk"](example())
JSON = neutral.as_json(example())


def refused(tmp_path: Path, name: str, text: str | bytes) -> str:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(KeyframeError) as caught:
        read_shapes(path)
    assert isinstance(caught.value, PipelineError) and caught.value.hint
    return caught.value.message


def changed(**values: object) -> str:
    return json.dumps(JSON | values)


BOMB = '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg viewBox="0 0 9 9"><path d="&b;"/></svg>'


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.svg", BOMB, "entities"),
        ("a.svg", '<?xml version="1.0"?><!doctype svg><svg/>', "entities"),
        ("a.svg", BOMB.encode("utf-16"), "UTF-8"),
        ("a.svg", "<svg viewBox='0 0 9 9'>" + "<g>" * 90 + "</g>" * 90 + "</svg>", "nested"),
        ("a.svg", "<svg viewBox='0 0 9 9'><path d='M0 0 L5", "well-formed"),
        ("a.svg", "<html/>", "no SVG"),
        ("a.svg", "", "XML"),
        ("a.svg", "<svg viewBox='0 0 9 9'/>", "no closed path"),
        ("a.svg", "<svg viewBox='0 0 nan 9'><path d='M0 0h5v5z'/></svg>", "size"),
        ("a.svg", "<svg viewBox='0 0 9e9 9'><path d='M0 0h5v5z'/></svg>", "size"),
        ("a.svg", "<svg viewBox='0 0 9 9'><path d='M0 0 A5 5 0 0 0 9 9z'/></svg>", "can't be read at"),
        ("a.svg", "<svg viewBox='0 0 9 9'><path d='M0 0 L nan 5z'/></svg>", "can't be read at"),
        ("a.svg", "<svg viewBox='0 0 9 9'><path d='M0 0 L 1e999 5 5 5z'/></svg>", "can't be read at"),
        ("a.svg", "<svg viewBox='0 0 9 9'><path d='L1 1 2 2z'/></svg>", "starts without"),
        ("a.svg", "<svg viewBox='0 0 9 9'><path d='M0 0h9e8v5z'/></svg>", "coordinate"),
        ("a.svg", "<svg viewBox='0 0 9 9'><text>hi</text></svg>", "'text'"),
        ("a.svg", "<svg viewBox='0 0 9 9'><use href='#a'/></svg>", "'use'"),
        ("a.svg", "<svg viewBox='0 0 9 9'><g transform='skewX(9)'><path d='M0 0h5v5z'/></g></svg>", "transform"),
        ("a.svg", "<svg viewBox='0 0 9 9' data-frames='1-99999999'><path d='M0 0h5v5z'/></svg>", "frames"),
        ("a.nk", "", "no Roto node"),
        ("a.nk", NK[: len(NK) // 2], "doesn't end"),
        ("a.nk", "Roto {\n curves {{v x3f99999a} " + "{" * 5000, "nested deeper"),
        ("a.nk", NK.replace("bezier", "bspline"), "isn't a Bezier"),
        ("a.nk", NK.replace("x447a8000", "x7fc00000"), "where a number is wanted"),
        ("a.nk", NK.replace("x447a8000", "x4b7a8000"), "keys span"),
        ("a.nk", NK.replace("x447a8000", "elephant"), "where a number is wanted"),
        ("a.nk", b"\xff\xfe\x00", "UTF-8"),
        ("a.json", "[" * 100_000, "nested deeper"),
        ("a.json", '{"format": ', "can't be read"),
        ("a.json", '{"format": "other"}', "holds no shapes"),
        ("a.json", "[]", "holds no shapes"),
        ("a.json", changed(version=2), "version 2"),
        ("a.json", changed(width=0), "0x120"),
        ("a.json", changed(width="9"), "whole number"),
        ("a.json", changed(width=10**30), "x120"),
        ("a.json", changed(frames="1-99999999"), "more than"),
        ("a.json", changed(shapes=[{}]), "can't be read"),
        ("a.json", changed(shapes=[JSON["shapes"][0] | {"keys": {}}]), "no keys"),
        ("a.json", changed(shapes=[JSON["shapes"][0] | {"keys": {"1": [[1, 2]]}}]), "7 numbers"),
        ("a.json", changed(shapes=[JSON["shapes"][0] | {"keys": {"x": []}}]), "can't be read"),
        ("a.json", changed(shapes=JSON["shapes"] * 2000), "too many"),
        ("a.json", changed(width=float("nan")), "NaN"),
        ("a.json", json.dumps({"format": "platewright.blender_mask", "version": 1}), "can't be read"),
        ("a.blender.json", WRITERS[".blender.json"](example()).replace('"co":[', '"co":[5,'), "can't be read"),
        ("a.blender.json", WRITERS[".blender.json"](example()).replace('"feather":0.0', '"feather":-1'), "negative"),
        ("a.txt", "", "no file of shapes"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason(tmp_path: Path, name: str, text: str | bytes, says: str) -> None:
    assert says in refused(tmp_path, name, text)


def test_a_file_beyond_the_limit_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MOST_BYTES", 10)
    assert "bytes" in refused(tmp_path, "a.json", json.dumps(JSON))


def test_a_file_that_is_not_there_is_the_disks_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't be read"):
        read_shapes(tmp_path / "a.nk")


def test_frames_the_shapes_never_live_on_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(changed(frames="1-900000"), encoding="utf-8")
    assert len(read_shapes(path).frames) == 900_000

"""Every format, written and read back: by its own reader, and by one that shares no code with it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray

from pipeline.frames import FrameRange
from pipeline.shapes import neutral, nuke
from pipeline.shapes.raster import rasterise
from pipeline.shapes.read import read_shapes, read_spline_matte
from pipeline.shapes.values import Layer, Point, Shape, ShapeError, ShapeSet
from pipeline.shapes.write import WRITERS, write_all
from tests.unit.shapes.made import HEIGHT, WIDTH, example, overlap, shape_sets

FORMATS = list(WRITERS)


@pytest.mark.parametrize("ending", FORMATS)
@given(shape_sets())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_reads_back_as_the_same_mattes(tmp_path: Path, ending: str, shapes: ShapeSet) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text(WRITERS[ending](shapes), encoding="utf-8")
    if ending == ".svg" and not any(s.drawn_at(f) for s in shapes.shapes for f in shapes.frames):
        return
    back = read_shapes(path)
    assert (back.width, back.height, back.frames, back.rate) == (
        shapes.width,
        shapes.height,
        shapes.frames,
        shapes.rate,
    )
    for frame in shapes.frames:
        assert np.abs(rasterise(back, frame) - rasterise(shapes, frame)).max() < 5e-3


@given(shape_sets())
@settings(max_examples=40, deadline=None)
def test_the_neutral_form_loses_nothing(shapes: ShapeSet) -> None:
    assert neutral.parse(json.loads(neutral.write(shapes))) == shapes


def test_all_files_appear_side_by_side_and_name_their_shapes(tmp_path: Path) -> None:
    made = write_all(example(), tmp_path / "shapes", "hero_v001")
    assert [p.name for p in made] == ["hero_v001" + ending for ending in FORMATS]
    assert sorted(p.name for p in (tmp_path / "shapes").iterdir()) == sorted(p.name for p in made)
    for path in made:
        back = read_shapes(path)
        assert [s.name for s in back.shapes] == ["hero_body1", "hero_hole1"]
        assert back.objects == ("hero",) and [s.subtract for s in back.shapes] == [False, True]
        assert [(s.first, s.last) for s in back.shapes] == [(1001, 1010), (1002, 1009)]


def test_few_keys_stay_few_where_the_format_holds_a_motion(tmp_path: Path) -> None:
    for path in write_all(example(), tmp_path, "a"):
        if path.name in ("a.nk", "a.json"):
            back = read_shapes(path)
            assert [sorted(s.keys) for s in back.shapes] == [[1001, 1004, 1010], [1002, 1009]]
            assert len(back.layer_of(back.shapes[0]).keys) == 10


# ---- Nuke, read by Tcl -------------------------------------------------------------------------------------------------

TCL = r"""
proc unknown {args} { return "" }
proc num {h} {
  if {[string match x* $h]} { binary scan [binary format I [expr "0x[string range $h 1 end]"]] R f; return $f }
  return [expr {double($h)}]
}
proc series {c} {
  set out {}
  if {[llength $c] == 1 && [llength [lindex $c 0]] == 1} { return [list [list - [num $c]]] }
  foreach k $c { lappend out [list [num [lindex $k 0]] [num [lindex $k 1]]] }
  return $out
}
proc points {cc} {
  foreach item $cc { if {[lindex $item 0] eq "p"} { set p [lrange $item 1 end] } }
  foreach q $p { puts "  P [series [lindex $q 0]] | [series [lindex $q 1]]" }
}
proc Roto {body} {
  array set knob $body
  set root [lindex $knob(curves) 0 2 1]
  foreach layer $root {
    if {[lindex $layer 0] ne "layer"} continue
    foreach item $layer {
      if {[lindex $item 0] eq "t"} {
        puts "LAYER"
        foreach c [lrange $item 1 end] { puts "  T [series $c]" }
      }
    }
    foreach item $layer {
      if {[lindex $item 0] eq "curvegroup"} {
        array unset a
        array set a [lrange [lindex $item 6] 1 end]
        set minus [expr {[info exists a(a)] && [num $a(a)] == 0}]
        puts "SHAPE [lindex $item 1] $minus [num $a(ltn)] [num $a(ltm)] [series $a(opc)]"
        points [lindex $item 4 0]
        if {[lindex $item 4 1] ne "idem"} { puts "FEATHER"; points [lindex $item 4 1] }
      }
    }
  }
}
source [lindex $argv 0]
"""
TCLSH = shutil.which("tclsh")


def tcl_curve(text: str, frame: float) -> float:
    keys = [tuple(pair.split()) for pair in re.findall(r"\{([^{}]+)\}", text)]
    if keys[0][0] == "-":
        return float(keys[0][1])
    times, values = [float(k[0]) for k in keys], [float(k[1]) for k in keys]
    return float(np.interp(frame, times, values))


def tcl_matte(dump: str, frame: int, width: int, height: int) -> NDArray[np.float32]:
    """The matte that Tcl's reading draws: own evaluation, own motion, own filling."""
    matte = np.zeros((height, width))
    blocks = re.split(r"^LAYER\n", dump, flags=re.MULTILINE)[1:]
    for block in reversed(blocks):  # the first child is on top
        motion = [line[4:] for line in re.findall(r"^  T .*$", block, re.MULTILINE)]
        keyed = np.array([tcl_curve(m, frame) for m in motion[19:]])
        entries = keyed.reshape(4, 4) if len(keyed) else np.eye(4)
        match = re.search(r"^SHAPE (\S+) (\d) (\S+) (\S+) (.*)$", block, re.MULTILINE)
        assert match is not None
        if not float(match[3]) <= frame <= float(match[4]) or tcl_curve(match[5], frame) < 0.5:
            continue
        main = block[match.end() :].split("FEATHER")[0]
        at = np.array(
            [
                [tcl_curve(axis, frame) for axis in line[4:].split("|")]
                for line in re.findall(r"^  P .*$", main, re.MULTILINE)
            ]
        ).reshape(-1, 3, 2)
        absolute = np.stack([at[:, 1], at[:, 1] + at[:, 0], at[:, 1] + at[:, 2]], 1)
        moved = absolute @ entries[:2, :2].T + entries[:2, 3]
        area = scan(de_casteljau(moved, height), width, height)
        matte = matte * (1 - area) if match[2] == "1" else matte + area - matte * area
    return matte.astype(np.float32)


def scan(line: NDArray[np.float64], width: int, height: int, fine: int = 16) -> NDArray[np.float64]:
    """Coverage by sixteen scan lines a row, exact along each: even-odd."""
    area = np.zeros((height, width))
    following = np.roll(line, -1, 0)
    column = np.arange(width)
    for number in range(height * fine):
        y = (number + 0.5) / fine
        cut = (line[:, 1] <= y) != (following[:, 1] <= y)
        p, q = line[cut], following[cut]
        xs = np.sort(p[:, 0] + (y - p[:, 1]) / (q[:, 1] - p[:, 1]) * (q[:, 0] - p[:, 0]))
        for a, b in zip(xs[::2], xs[1::2], strict=True):
            area[number // fine] += (np.clip(b - column, 0, 1) - np.clip(a - column, 0, 1)) / fine
    return area


def de_casteljau(points: NDArray[np.float64], height: int) -> NDArray[np.float64]:
    """Vertex, in, out with y up → a dense polyline with y down."""
    out = []
    for k in range(len(points)):
        p = [points[k, 0], points[k, 2], points[(k + 1) % len(points), 1], points[(k + 1) % len(points), 0]]
        for t in np.linspace(0, 1, 24, endpoint=False):
            q = p
            while len(q) > 1:
                q = [a + t * (b - a) for a, b in pairwise(q)]
            out.append((q[0][0], height - q[0][1]))
    return np.array(out)


@pytest.mark.skipif(TCLSH is None, reason="no tclsh: scripts/test installs Debian's tcl where it may")
def test_tcl_reads_the_roto_node_and_draws_the_same_matte(tmp_path: Path) -> None:
    shapes = example(hidden=((1007, 1008),))
    script, reader = tmp_path / "a.nk", tmp_path / "read.tcl"
    script.write_text(nuke.write(shapes), encoding="utf-8")
    reader.write_text(TCL, encoding="utf-8")
    done = subprocess.run([str(TCLSH), str(reader), str(script)], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout.count("SHAPE") == 2
    for frame in list(shapes.frames)[::2]:
        drawn = tcl_matte(done.stdout, frame, WIDTH, HEIGHT)
        mine = rasterise(shapes, frame)
        assert overlap(drawn, mine) > 0.999 or not mine.any()
        assert np.abs(drawn - mine).max() < 0.05


@pytest.mark.skipif(TCLSH is None, reason="no tclsh: scripts/test installs Debian's tcl where it may")
def test_tcl_sees_the_feather_as_offsets_of_its_width(tmp_path: Path) -> None:
    script, reader = tmp_path / "a.nk", tmp_path / "read.tcl"
    script.write_text(nuke.write(example(feather_px=6.0)), encoding="utf-8")
    reader.write_text(TCL, encoding="utf-8")
    done = subprocess.run([str(TCLSH), str(reader), str(script)], capture_output=True, text=True, check=True)
    edge = done.stdout.split("FEATHER")[1].split("LAYER")[0]
    rows = re.findall(r"^  P .*$", edge, re.MULTILINE)[1::3]
    widths = [np.hypot(*(tcl_curve(axis, 1001) for axis in row[4:].split("|"))) for row in rows]
    assert len(widths) == 6 and widths == pytest.approx([6.0] * 6, abs=1e-4)


# ---- SVG, read by ElementTree and a path parser of its own ---------------------------------------------------------------


def svg_matte(text: str, frame: int) -> NDArray[np.float32]:
    root = ElementTree.fromstring(text)
    spot = "{http://www.w3.org/2000/svg}"
    matte = np.zeros((HEIGHT, WIDTH))
    (group,) = [g for g in root.findall(f"{spot}g") if g.get("data-frame") == str(frame)]
    for path in group.findall(f"{spot}path"):
        start, *curves = [
            [float(n) for n in part.split()] for part in re.split("[MCZ]", path.get("d", "")) if part.strip()
        ]
        at, line = np.array(start), []
        for c in curves:
            a, b, end = (np.array(c[i : i + 2]) for i in (0, 2, 4))
            for t in np.linspace(0, 1, 24, endpoint=False):
                line.append((1 - t) ** 3 * at + 3 * t * (1 - t) ** 2 * a + 3 * t * t * (1 - t) * b + t**3 * end)
            at = end
        area = scan(np.array(line), WIDTH, HEIGHT)
        matte = matte + area - matte * area if path.get("fill") == "#fff" else matte * (1 - area)
    return matte.astype(np.float32)


def test_another_svg_reader_draws_the_same_matte() -> None:
    shapes = example(hidden=((1007, 1008),))
    text = WRITERS[".svg"](shapes)
    for frame in list(shapes.frames)[::3]:
        mine, drawn = rasterise(shapes, frame), svg_matte(text, frame)
        assert overlap(mine, drawn) > 0.999 or not mine.any()
        assert np.abs(drawn - mine).max() < 0.05


# ---- Blender's JSON, read by the standard library -------------------------------------------------------------------------


def test_blenders_units_are_of_the_longer_side_from_the_lower_left() -> None:
    shapes = ShapeSet(
        width=200,
        height=100,
        frames=FrameRange.of([1, 2]),
        shapes=(
            Shape(
                name="s",
                object="o",
                keys={1: (Point(0, 0, 1, 2), Point(200, 100), Point(100, 50, feather_px=4))},
                first=1,
                last=2,
            ),
        ),
    )
    data = json.loads(WRITERS[".blender.json"](shapes))
    (layer,) = data["layers"]
    assert [key["frame"] for key in layer["spline"]["keys"]] == [1, 2] and layer["artist_keys"] == [1]
    points = layer["spline"]["keys"][0]["points"]
    assert [p["co"] for p in points] == [[0.0, 0.75], [1.0, 0.25], [0.5, 0.5]]
    assert points[0]["handle_left"] == pytest.approx([1 / 200, 0.75 - 2 / 200])
    assert points[2]["feather"] == pytest.approx(0.02)


# ---- Foreign files, and splines as keyframes ------------------------------------------------------------------------------

FOREIGN = """set cut_paste_input [stack 0]
Roto {
 inputs 0
 curves {{{v x3f99999a}
  {f 0}
  {n
   {layer Root
    {f 2097152}
    {t x42c80000 x42480000}
    {a pt1x 0}
    {curvegroup Bezier1 512 bezier
     {{cc
       {f 8192}
       {px x42e60000
        {0 0}
        {x41200000 x41200000}
        {}
        {0 0}
        {x42b40000 x41200000}
        {0 0}
        {0 0}
        {{{x42e60000 x42480000 0 1 0 1} {x42ee0000 x42700000 0 1 0 1}} {{x42e60000 x42a00000} {x42ee0000 x42a00000}}}
        {0 0}}}     idem}
     {tx x42e60000 x45274c92 x44ccd925}
     {a osw x41200000 osf 0 str 1 spx x44800000 spy x44428000 sb 1 tt x40800000}}}}}}
 name Roto1
}
"""


def test_a_roto_node_as_nuke_saves_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.nk"
    path.write_text(FOREIGN, encoding="utf-8")
    shapes = read_shapes(path)
    (shape,) = shapes.shapes
    assert (shapes.width, shapes.height, shape.name) == (200, 100, "Bezier1")
    assert [(p.x, p.y) for p in shape.at(115)] == [(10, 90), (90, 90), (50, 20)]
    # Flat slopes ease in and out: a quarter of the way is before a quarter of the path.
    assert shape.at(116)[2].x == pytest.approx(50 + 10 * (3 / 16 - 2 / 64))
    assert shape.drawn_at(-500) and shape.drawn_at(5000)


def test_a_layer_turned_by_its_own_knobs_is_refused(tmp_path: Path) -> None:
    text = nuke.write(example())
    before, after = text.split("{t {{", 2)[0], text.split("{t {{", 2)[1]
    first = after.split("}}", 1)
    path = tmp_path / "a.nk"
    path.write_text(
        f"{before}{{t {{{{{first[0].split()[0]} x41200000}}}}{first[1]}"
        + "{t {{".join(["", *text.split("{t {{", 2)[2:]])
    )
    with pytest.raises(ShapeError, match="turned, scaled or skewed"):
        read_shapes(path)


def test_a_drawing_by_hand_is_read_as_a_still(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 80"><g transform="translate(10 5) scale(2)">'
        '<path id="square" style="fill:#123456" d="M5,5 h20 v10 l-20,0 z"/></g></svg>'
    )
    matte = read_spline_matte(path, 1234, width=100, height=80)
    assert matte[15:35, 20:60].min() == 1 and matte.sum() == 20 * 40


def test_curves_of_every_kind_join_where_they_should(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(
        '<svg viewBox="0 0 100 80"><path d="M10 40 C10 20 30 20 30 40 S50 60 50 40 Q60 20 70 40 T90 40 V70 H10 Z"/></svg>'
    )
    (shape,) = read_shapes(path).shapes
    points = shape.at(0)
    assert [(p.x, p.y) for p in points] == [(10, 40), (30, 40), (50, 40), (70, 40), (90, 40), (90, 70), (10, 70)]
    assert (points[1].out_x, points[1].out_y) == (0, 20)  # S mirrors the handle before it
    assert (points[3].out_x, points[3].out_y) == pytest.approx((20 / 3, 40 / 3))  # T mirrors the quadratic's


def test_a_spline_key_is_the_matte_of_its_frame(tmp_path: Path) -> None:
    shapes = example()
    for path in write_all(shapes, tmp_path, "a"):
        matte = read_spline_matte(path, 1005, width=WIDTH, height=HEIGHT)
        assert matte.shape == (HEIGHT, WIDTH) and matte.dtype == np.float32
        assert np.abs(matte - rasterise(shapes, 1005)).max() < 5e-3
        with pytest.raises(ShapeError, match="200x120, not 400x240"):
            read_spline_matte(path, 1005, width=400, height=240)
        with pytest.raises(ShapeError, match="draws nothing on frame 2000"):
            read_spline_matte(path, 2000, width=WIDTH, height=HEIGHT)


def test_only_the_named_objects_shapes_are_drawn(tmp_path: Path) -> None:
    one = example()
    both = ShapeSet(
        width=WIDTH,
        height=HEIGHT,
        frames=one.frames,
        layers=(Layer("x"),),
        shapes=(
            *(Shape(name=s.name, object=s.object, keys=s.keys, first=s.first, last=s.last) for s in one.shapes[:1]),
            Shape(name="dog_body1", object="dog", keys=one.shapes[1].keys, first=1001, last=1010),
        ),
    )
    path = tmp_path / "a.json"
    path.write_text(WRITERS[".json"](both), encoding="utf-8")
    dog = read_spline_matte(path, 1005, width=WIDTH, height=HEIGHT, object_name="dog")
    assert 0 < dog.sum() < read_spline_matte(path, 1005, width=WIDTH, height=HEIGHT).sum() / 3

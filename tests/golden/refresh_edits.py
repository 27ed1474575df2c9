"""Writes the golden edits: `python tests/golden/refresh_edits.py`.

One awkward case a file: `edits/<case>.otio`, and beside it `edits/<case>.json`, its contexts with 8 handles. What each case must
give was worked out by hand and stands here; a code that gives something else can't refresh the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import opentimelineio as otio
from opentimelineio.opentime import RationalTime, TimeRange
from opentimelineio.schema import (
    Clip,
    ExternalReference,
    FreezeFrame,
    Gap,
    ImageSequenceReference,
    LinearTimeWarp,
    MissingReference,
    SerializableCollection,
    Stack,
    TimeEffect,
    Timeline,
    Track,
    Transition,
)

from pipeline.edit.otio_in import edit_contexts, read_timeline

FOLDER = Path(__file__).parent / "edits"
HANDLES = 8
Case = tuple[Any, list[dict[str, Any]]]
CASES: dict[str, Callable[[], Case]] = {}


def case(build: Callable[[], Case]) -> Callable[[], Case]:
    """Register a case by its function's name."""
    CASES[build.__name__] = build
    return build


def span(start: float, duration: float, rate: float = 24) -> TimeRange:
    """A time range of frames."""
    return TimeRange(RationalTime(start, rate), RationalTime(duration, rate))


def files(start: int = 1001, duration: int = 100, *, at: float | None = None, rate: float = 24, step: int = 1) -> Any:
    """An image sequence; `at` is the media time of its first file, where it isn't the file's number."""
    return ImageSequenceReference(
        target_url_base="/show/sh010/plate",
        name_prefix="sh010.",
        name_suffix=".exr",
        start_frame=start,
        frame_step=step,
        rate=rate,
        frame_zero_padding=4,
        available_range=span(start if at is None else at, duration, rate),
    )


def movie(start: float = 86400, duration: float = 240, rate: float = 24, url: str = "/show/a.mov") -> Any:
    """A movie with its timecode as its range."""
    return ExternalReference(url, span(start, duration, rate))


def cut(*children: Any, start: RationalTime | None = None) -> Timeline:
    """A timeline of one video track."""
    timeline = Timeline("cut", global_start_time=start)
    timeline.tracks.append(Track("V1", children=list(children), kind="Video"))
    return timeline


def warped(clip: Any, *effects: Any) -> Any:
    """The clip with effects."""
    clip.effects.extend(effects)
    return clip


@case
def retime_double() -> Case:
    """24 record frames at 2x are 48 of the media: 1011 + 48 = 1059, exclusive. 8 handles are 16: 1058 + 16 = 1074."""
    clip = warped(Clip("sh010", files(), span(1011, 24)), LinearTimeWarp(time_scalar=2.0))
    return cut(clip), [{"cut_in": 1011, "cut_out": 1058, "head_in": 1001, "tail_out": 1074, "missing": []}]


@case
def retime_two_thirds() -> Case:
    """3 record frames at 2/3, written as the float it becomes, are 2 of the media. 8 handles are 16/3, so 6: 1012 + 6 = 1018."""
    clip = warped(Clip("sh010", files(), span(1011, 3)), LinearTimeWarp(time_scalar=2 / 3))
    return cut(clip), [{"cut_in": 1011, "cut_out": 1012, "head_in": 1005, "tail_out": 1018}]


@case
def retime_half_odd() -> Case:
    """25 record frames at 1/2 are 12.5 of the media, to 1023.5 exclusive: half of 1023, which a truncated N·s−1 loses."""
    clip = warped(Clip("sh010", files(), span(1011, 25)), LinearTimeWarp(time_scalar=0.5))
    return cut(clip), [{"cut_in": 1011, "cut_out": 1023, "head_in": 1007, "tail_out": 1027}]


@case
def retime_half() -> Case:
    """24 record frames at 1/2 are 12 of the media: 1011 + 12 = 1023, exclusive. 8 handles are 4."""
    clip = warped(Clip("sh010", files(), span(1011, 24)), LinearTimeWarp(time_scalar=0.5))
    return cut(clip), [{"cut_in": 1011, "cut_out": 1022, "head_in": 1007, "tail_out": 1026}]


@case
def retime_three_halves() -> Case:
    """25 record frames at 3/2 are 37.5 of the media, to 1048.5 exclusive: half of 1048. 8 handles are 12: 1011 - 12 = 999."""
    clip = warped(Clip("sh010", files(), span(1011, 25)), LinearTimeWarp(time_scalar=1.5))
    return cut(clip), [{"cut_in": 1011, "cut_out": 1048, "head_in": 1001, "tail_out": 1060}]


@case
def retime_contiguous() -> Case:
    """Two uses end to end at 3/2, parted inside a frame: 5 · 1.5 = 7.5, so 1011-1018.5 and 1018.5-1026 both use 1018."""
    first = warped(Clip("a", files(), span(1011, 5)), LinearTimeWarp(time_scalar=1.5))
    second = warped(Clip("b", files(), span(1018.5, 5)), LinearTimeWarp(time_scalar=1.5))
    return cut(first, second), [
        {"cut_in": 1011, "cut_out": 1018, "head_in": 1001, "tail_out": 1030, "cuts": [1018, 1026]},
        {"cut_in": 1018, "cut_out": 1025, "head_in": 1006, "tail_out": 1037, "cuts": [1011, 1019]},
    ]


@case
def retime_dissolve() -> Case:
    """A dissolve of 2 + 3 record frames between 3/2 and -1/2.

    The first plays [1011, 1029), 3 · 1.5 = 4.5 more at its tail: [1011, 1033.5). Of the second, in reverse from the top of
    [1021, 1029), 2 · 0.5 = 1 more goes before its first frame, which is above: [1021, 1030). 8 handles are 12 and 4.
    """
    first = warped(Clip("sh010", files(), span(1011, 12)), LinearTimeWarp(time_scalar=1.5))
    second = warped(
        Clip("sh020", movie(1001, 100, url="/show/b.mov"), span(1021, 16)), LinearTimeWarp(time_scalar=-0.5)
    )
    dissolve = Transition("d", "SMPTE_Dissolve", RationalTime(2, 24), RationalTime(3, 24))
    return cut(first, dissolve, second), [
        {"cut_out": 1028, "source_first": 1011, "source_last": 1033, "head_in": 1001, "tail_out": 1045},
        {"cut_in": 1021, "cut_out": 1028, "source_first": 1021, "source_last": 1029, "head_in": 1017, "tail_out": 1033},
    ]


@case
def reverse_double() -> Case:
    """24 record frames at -2x: the 48 frames from the lowest on, as at 2x."""
    clip = warped(Clip("sh010", files(), span(1021, 24)), LinearTimeWarp(time_scalar=-2.0))
    return cut(clip), [{"cut_in": 1021, "cut_out": 1068, "head_in": 1005, "tail_out": 1084, "record_out": 23}]


@case
def reverse() -> Case:
    """In reverse the source range still begins at the lowest frame."""
    clip = warped(Clip("sh010", files(), span(1021, 24)), LinearTimeWarp(time_scalar=-1.0))
    return cut(clip), [{"cut_in": 1021, "cut_out": 1044, "head_in": 1013, "tail_out": 1052}]


@case
def freeze() -> Case:
    """A freeze plays one frame and takes no handles."""
    clip = warped(Clip("sh010", files(), span(1021, 48)), FreezeFrame())
    return cut(clip), [{"cut_in": 1021, "cut_out": 1021, "head_in": 1021, "tail_out": 1021, "record_out": 47}]


@case
def unknown_curve() -> Case:
    """A time effect whose curve only its host knows."""
    clip = warped(Clip("sh010", files(), span(1011, 24)), TimeEffect(effect_name="TimeWarp"))
    return cut(clip), [{"cut_in": 1011, "refusals": 1, "missing": []}]


@case
def transition() -> Case:
    """A dissolve of 2 + 3 frames: 3 more at the tail of the first clip, 2 more at the head of the second."""
    first = Clip("sh010", files(), span(1011, 24))
    second = Clip("sh020", movie(), span(86410, 24))
    dissolve = Transition("d", "SMPTE_Dissolve", RationalTime(2, 24), RationalTime(3, 24))
    return cut(first, dissolve, second), [
        {"cut_in": 1011, "cut_out": 1034, "source_first": 1011, "source_last": 1037, "tail_out": 1045},
        {"cut_in": 86410, "source_first": 86408, "source_last": 86433, "head_in": 86400, "record_in": 24},
    ]


@case
def nested_retime() -> Case:
    """A compound of two clips at 2x, frames 0-47 of it: all 15 of the first; 33 of the second, whose cut is inside record frame 17.

    Record frame 7 of the compound starts in the first clip and is that clip's; the second's frame 0 goes by in its second half.
    """
    inner = Track("inner", kind="Video")
    inner.extend([Clip("a", files(), span(1001, 15)), Clip("b", movie(), span(86400, 60))])
    stack = warped(Stack("compound", children=[inner], source_range=span(0, 24)), LinearTimeWarp(time_scalar=2.0))
    return cut(Gap(source_range=span(0, 10)), stack), [
        {"cut_in": 1001, "cut_out": 1015, "record_in": 10, "record_out": 17, "tail_out": 1031},
        {"cut_in": 86400, "cut_out": 86432, "record_in": 18, "record_out": 33, "tail_out": 86448},
    ]


@case
def nested_retime_trim() -> Case:
    """A compound trimmed to 9 record frames at -3/2 from its frame 4: 13.5 of it, [4, 17.5), backwards.

    The first clip, at 2x, plays [4, 10) of its 10: 1001 + [8, 20). The second plays [0, 7.5) of its 20. In record time they part
    at (17.5 - 10) / 1.5 = 5. 8 handles are 8 · 1.5 · 2 = 24 of the first and 12 of the second.
    """
    inner = Track("inner", kind="Video")
    fast = warped(Clip("a", files(), span(1001, 10)), LinearTimeWarp(time_scalar=2.0))
    inner.extend([fast, Clip("b", movie(), span(86400, 20))])
    stack = warped(Stack("compound", children=[inner], source_range=span(4, 9)), LinearTimeWarp(time_scalar=-1.5))
    return cut(stack), [
        {"cut_in": 1009, "cut_out": 1020, "record_in": 5, "record_out": 8, "head_in": 1001, "tail_out": 1044},
        {"cut_in": 86400, "cut_out": 86407, "record_in": 0, "record_out": 4, "head_in": 86400, "tail_out": 86419},
    ]


@case
def nested_freeze() -> Case:
    """A compound held on its frame 12 for 48: the second clip's frame 2, at 2x from 86404, and nothing of the first."""
    inner = Track("inner", kind="Video")
    fast = warped(Clip("b", movie(), span(86400, 20)), LinearTimeWarp(time_scalar=2.0))
    inner.extend([Clip("a", files(), span(1001, 10)), fast])
    stack = warped(Stack("compound", children=[inner], source_range=span(12, 48)), FreezeFrame())
    return cut(stack), [
        {"plays": False, "refusals": 1},
        {"cut_in": 86404, "cut_out": 86404, "head_in": 86404, "tail_out": 86404, "record_in": 0, "record_out": 47},
    ]


@case
def nested_reverse() -> Case:
    """A compound in reverse: its last clip comes first, and each plays backwards."""
    inner = Track("inner", kind="Video")
    inner.extend([Clip("a", files(), span(1001, 10)), Clip("b", movie(), span(86400, 14))])
    stack = warped(Stack("compound", children=[inner], source_range=span(0, 24)), LinearTimeWarp(time_scalar=-1.0))
    return cut(stack), [
        {"cut_in": 1001, "cut_out": 1010, "record_in": 14, "record_out": 23},
        {"cut_in": 86400, "cut_out": 86413, "record_in": 0, "record_out": 13},
    ]


@case
def nested_trim() -> Case:
    """A compound trimmed at both ends: 20 frames from its tenth on; the third clip is trimmed away."""
    inner = Track("inner", kind="Video")
    clips = [
        Clip("a", files(), span(1001, 15)),
        Clip("b", movie(), span(86410, 20)),
        Clip("c", movie(), span(86500, 5)),
    ]
    inner.extend(clips)
    stack = Stack("compound", children=[inner], source_range=span(10, 20))
    return cut(stack), [
        {"cut_in": 1011, "cut_out": 1015, "record_in": 0, "record_out": 4},
        {"cut_in": 86410, "cut_out": 86424, "record_in": 5, "record_out": 19},
        {"refusals": 1, "plays": False},
    ]


@case
def start_time_and_gap() -> Case:
    """A timeline from one hour on, with a gap: record frames are the timeline's."""
    timeline = cut(Gap(source_range=span(0, 12)), Clip("sh010", files(), span(1011, 24)), start=RationalTime(86400, 24))
    return timeline, [{"record_in": 86412, "record_out": 86435}]


@case
def drop_frame_start_time() -> Case:
    """01:00:00;00 at 29.97 is frame 107892."""
    rate = 30000 / 1001
    clip = Clip("sh010", movie(107892, 300, rate), span(107900, 30, rate))
    timeline = cut(clip, start=otio.opentime.from_timecode("01:00:00;00", rate))
    return timeline, [{"record_in": 107892, "cut_in": 107900, "cut_out": 107929, "rate": "30000/1001"}]


@case
def two_uses() -> Case:
    """One movie used twice: the second use begins and ends inside the first's handles, and the other way round."""
    return cut(Clip("a", movie(), span(86420, 20)), Clip("b", movie(), span(86442, 20))), [
        {"cut_in": 86420, "cut_out": 86439, "tail_out": 86447, "cuts": [86442]},
        {"cut_in": 86442, "cut_out": 86461, "head_in": 86434, "cuts": [86440]},
    ]


@case
def switched_off() -> Case:
    """A clip that is switched off doesn't play, and bounds no other."""
    off = Clip("a", movie(), span(86420, 20))
    off.enabled = False
    return cut(off, Clip("b", movie(), span(86442, 20))), [
        {"enabled": False, "plays": False, "refusals": 0},
        {"cuts": [], "record_in": 20},
    ]


@case
def covered() -> Case:
    """A clip under another track's clip: a warning, no refusal."""
    timeline = cut(Clip("under", files(), span(1011, 24)))
    timeline.tracks.append(
        Track("V2", children=[Gap(source_range=span(0, 20)), Clip("over", movie(), span(86400, 10))], kind="Video")
    )
    return timeline, [
        {"warnings": ["it is covered by 'over' on 'V2' while it plays"]},
        {"warnings": [], "record_in": 20},
    ]


@case
def sequence_with_timecode() -> Case:
    """Files 1005… whose media time is timecode 86530: frames are file numbers."""
    clip = Clip("sh010", files(1005, 52, at=86530), span(86535, 40))
    return cut(clip), [
        {
            "cut_in": 1010,
            "cut_out": 1049,
            "head_in": 1005,
            "tail_out": 1056,
            "available_first": 1005,
            "available_last": 1056,
        }
    ]


@case
def sequence_on_twos() -> Case:
    """One file every two frames: 1001, 1003, … 1099; frame 10 of the media is in file 1011."""
    clip = Clip("sh010", files(1001, 100, at=0, step=2), span(11, 10))
    return cut(clip), [{"cut_in": 1011, "cut_out": 1021, "available_last": 1099}]


@case
def missing_media() -> Case:
    """Offline media without a range, but with a name."""
    return cut(Clip("sh010", MissingReference("A001C002"), span(10, 5))), [
        {"media": "A001C002", "cut_in": 10, "cut_out": 14, "available_first": None, "missing": [], "refusals": 0}
    ]


@case
def two_media() -> Case:
    """The active one of two references counts."""
    clip = Clip("sh010", None, span(1011, 24))
    clip.set_media_references({"proxy": movie(0, 100), "full": files()}, "full")
    return cut(clip), [{"media": "/show/sh010/plate/sh010.####.exr", "cut_in": 1011, "available_last": 1100}]


@case
def no_available_range() -> Case:
    """Media of unknown length: nothing can be missing, handles are taken on trust."""
    return cut(Clip("sh010", ExternalReference("/show/a.mov"), span(100, 10))), [
        {"head_in": 92, "tail_out": 117, "missing": [], "available_last": None, "refusals": 0}
    ]


@case
def disjoint() -> Case:
    """A timecode source range over media counted in file numbers: no frame is made of that."""
    return cut(Clip("sh010", files(), span(900000, 48))), [{"refusals": 1, "missing": []}]


@case
def shot_extension() -> Case:
    """The cut plays 5 frames before and 10 after what there is: those are missing, handles aren't."""
    return cut(Clip("sh010", files(1001, 48), span(996, 63))), [
        {
            "cut_in": 996,
            "cut_out": 1058,
            "head_in": 996,
            "tail_out": 1058,
            "missing": [[996, 1000], [1049, 1058]],
            "available_last": 1048,
        }
    ]


@case
def labels_at_another_rate() -> Case:
    """A source range of 24 over media of 23.976 with the same timecode: in seconds it would miss the media."""
    return cut(Clip("sh010", movie(86400, 48, 24000 / 1001), span(86410, 24))), [
        {"cut_in": 86410, "cut_out": 86433, "rate": "24000/1001", "refusals": 0}
    ]


@case
def seconds_at_another_rate() -> Case:
    """A 25 timeline over 24 media: 90032 at 25 is 86430.72 at 24, and 44 frames play 42.24, to 86472.96.

    8 handles are 8 · 24/25 = 7.68, so 8.
    """
    return cut(Clip("sh010", movie(86400, 100), span(90032, 44, 25))), [
        {"cut_in": 86430, "cut_out": 86472, "head_in": 86422, "tail_out": 86480, "rate": "24"}
    ]


@case
def float32_rates() -> Case:
    """23.976 as exporters write it, two ways in one clip."""
    clip = Clip("sh010", files(997, 51, rate=23.976), span(1000, 20, 23.976024627685547))
    return cut(clip), [{"cut_in": 1000, "cut_out": 1019, "rate": "24000/1001", "warnings": []}]


@case
def track_placed_by_edl() -> Case:
    """A negative track range is where an EDL begins, not a trim; here it would overlap its own clips."""
    timeline = cut(Clip("a", None, span(10, 60)), Clip("b", None, span(86400, 40)))
    timeline.tracks[0].source_range = span(-48, 100)
    return timeline, [{"record_in": 48, "record_out": 107, "cut_out": 69}, {"record_in": 108, "record_out": 147}]


@case
def zero_length() -> Case:
    """A clip of no frames."""
    return cut(Clip("sh010", files(), span(1011, 0))), [
        {"refusals": 1, "plays": False, "cut_in": 1011, "cut_out": 1011}
    ]


@case
def one_name_twice() -> Case:
    """Two clips of one name are told apart by their order."""
    return cut(Clip("sh010", files(), span(1001, 10)), Clip("sh010", files(), span(1031, 10))), [
        {"address": "sh010#1", "cut_in": 1001},
        {"address": "sh010#2", "cut_in": 1031},
    ]


@case
def still_picture() -> Case:
    """A picture of one frame held for 48: a hold, no request for 47 more."""
    return cut(Clip("title", movie(0, 1, url="/show/title.png"), span(0, 48))), [
        {"cut_in": 0, "cut_out": 0, "tail_out": 0, "missing": [], "record_out": 47}
    ]


@case
def halved_rate() -> Case:
    """Premiere: 50 frames at 15 in a timeline of 30 are 100 record frames, which play all 100 of the media."""
    timeline = cut(Clip("sh010", movie(0, 100, 30), span(0, 50, 15)), start=RationalTime(0, 30))
    return timeline, [{"cut_in": 0, "cut_out": 99, "record_out": 99, "rate": "30"}]


@case
def encoded_url() -> Case:
    """A percent-encoded address with a drive letter, and a bracketed sequence named as one file."""
    url = "file://localhost/D%3a/my%20show/sh010.%5B1001-1048%5D.exr"
    return cut(Clip("sh010", movie(86400, 48, url=url), span(86405, 10))), [
        {"media": "D:/my show/sh010.####.exr", "cut_in": 1006, "cut_out": 1015, "available_last": 1048}
    ]


@case
def collection() -> Case:
    """A bin of clips without a timeline, as an ALE gives."""
    bin_ = SerializableCollection("bin", [Clip("a", files()), Clip("b", movie(), span(86410, 5))])
    return bin_, [
        {"cut_in": 1001, "cut_out": 1100, "record_in": 0},
        {"cut_in": 86410, "cut_out": 86414, "record_in": 0},
    ]


@case
def lone_clip() -> Case:
    """One clip and nothing round it."""
    return Clip("sh010", files(), span(1011, 24)), [{"cut_in": 1011, "cut_out": 1034, "record_in": 0, "record_out": 23}]


def differences(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[str]:
    """What contexts give that the hand's work doesn't, in words."""
    if len(found) != len(expected):
        return [f"{len(found)} contexts, not {len(expected)}"]
    out: list[str] = []
    for got, want in zip(found, expected, strict=True):
        for key, value in want.items():
            actual = len(got[key]) if key == "refusals" else got[key]
            if actual != value:
                out.append(f"{got['clip']}.{key}: {actual!r}, not {value!r}")
    return out


def main() -> int:
    """Write every case; nothing when one differs from what stands here."""
    FOLDER.mkdir(exist_ok=True)
    texts: dict[Path, str] = {}
    wrong = 0
    for name, build in CASES.items():
        root, expected = build()
        path = FOLDER / f"{name}.otio"
        text = otio.adapters.write_to_string(root, "otio_json") + "\n"
        scratch = FOLDER / f".{name}.otio"
        scratch.write_text(text)
        try:
            found = [one.as_json() for one in edit_contexts(read_timeline(scratch), handles=HANDLES)]
        finally:
            scratch.unlink()
        for line in differences(found, expected):
            wrong += 1
            print(f"{name}: {line}")
        texts[path] = text
        texts[path.with_suffix(".json")] = json.dumps(found, indent=2) + "\n"
    if wrong:
        return 1
    for path, text in texts.items():
        path.write_text(text)
    print(f"{len(CASES)} cases written")
    return 0


if __name__ == "__main__":
    sys.exit(main())

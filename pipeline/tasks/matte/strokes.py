"""Where the hair brush went, on any frame: strokes are keyed over frames like any other shape."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.parameters import Stroke

Run = list[tuple[float, float]]


def strokes_at(strokes: Sequence[Stroke], frame: int) -> list[Run]:
    """The runs of x, y that hold on a frame: those drawn on it, or else those of the nearest frames drawn on.

    Between two such frames strokes that were drawn in the same order with the same number of samples move from one to the other; all
    others stay where the nearer frame has them.
    """
    drawn: dict[int, list[Run]] = {}
    for stroke in strokes:
        for number in sorted({sample[0] for sample in stroke}):
            drawn.setdefault(number, []).append([(x, y) for at, x, y in stroke if at == number])
    if not drawn:
        return []
    if frame in drawn:
        return drawn[frame]
    before = max((f for f in drawn if f < frame), default=None)
    after = min((f for f in drawn if f > frame), default=None)
    if before is None or after is None:
        held = before if before is not None else after
        assert held is not None  # drawn isn't empty
        return drawn[held]
    share = (frame - before) / (after - before)
    first, last = drawn[before], drawn[after]
    if [len(run) for run in first] != [len(run) for run in last]:
        return first if share <= 0.5 else last
    return [
        [(x + share * (u - x), y + share * (v - y)) for (x, y), (u, v) in zip(a, b, strict=True)]
        for a, b in zip(first, last, strict=True)
    ]

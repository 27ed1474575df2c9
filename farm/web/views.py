"""What the pages show, worked out from the dispatcher's records: pure functions, no request, no database, no markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from farm.records import AttemptView, ChunkView, JobDetail, JobView, StepView, TakeView, VersionView
from farm.states import AttemptState, ChunkState, JobKind, JobState, VersionState
from pipeline.errors import PipelineError, TaskError
from pipeline.frames import FrameRange
from pipeline.jobs.plan import StepName
from pipeline.jobs.spec import JobSpec
from pipeline.parameters import describe
from pipeline.tasks.definition import CONFIDENCE, Measure
from pipeline.tasks.registry import task

FRAME_STATE = {ChunkState.SUCCEEDED: "done"}
"""A frame's state on the strip is its chunk's, by one shorter name."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a stacked bar; `x` and `width` in percent of it."""

    state: str
    x: float
    width: float


def bar(parts: Iterable[tuple[str, float]], total: float) -> tuple[Segment, ...]:
    """Stack (state, amount) from the left; what is left of `total` stays bare."""
    at = 0.0
    out: list[Segment] = []
    for state, amount in parts:
        width = min(100.0 * amount / total if total > 0 else 0.0, 100.0 - at)
        if width > 0:
            out.append(Segment(state, round(at, 3), round(width, 3)))
        at += max(width, 0.0)
    return tuple(out)


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job as a row of the table, and as the head of its own page."""

    job: JobView
    where: str
    version: str
    percent: int
    done: int
    total: int
    failed: int
    segments: tuple[Segment, ...]
    seconds: float
    """Since it was submitted, or from submission to its end."""


def job_line(job: JobView, *, now: float) -> JobLine:
    """A job, counted for showing."""
    total = sum(step.total for step in job.steps)
    done = sum(step.done for step in job.steps)
    failed = sum(step.failed for step in job.steps)
    # `progress` counts the running chunks' own fractions too: what they still have to do is drawn as running.
    complete = 1.0 if job.state is JobState.SUCCEEDED else job.progress
    share = 1.0 / total if total else 0.0
    part = max(0.0, complete - done * share)
    under_way = max(0.0, job.running * share - part)
    version = job.versions[0] if job.versions else None
    return JobLine(
        job=job,
        where=job.name
        if job.kind in (JobKind.TRAINING, JobKind.SCORING)
        else " / ".join(part for part in (job.show, job.sequence, job.shot) if part),
        version="" if version is None else f"v{version.number:03d}",
        percent=_percent(complete),
        done=done,
        total=total,
        failed=failed,
        segments=bar((("done", complete), ("running", under_way), ("failed", failed * share)), 1.0),
        seconds=max(0.0, (job.ended_at or now) - job.created_at),
    )


def _percent(fraction: float) -> int:
    """Whole percent, and 100 only when it is all done."""
    return 100 if fraction >= 1 else min(99, int(fraction * 100))


def matches(job: JobView, words: Sequence[str]) -> bool:
    """Whether every word of a search occurs somewhere in what a row shows."""
    versions = " ".join(version.name for version in job.versions)
    text = f"#{job.id} {job.name} {job.task} {job.user} {job.state} {job.message} {versions}".casefold()
    return all(word in text for word in words)


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of a take with its bar."""

    step: StepView
    state: str
    segments: tuple[Segment, ...]


def step_lines(detail: JobDetail, take: int) -> tuple[StepLine, ...]:
    """The steps of a take in their order. A step's state is that of its liveliest chunk."""
    out: list[StepLine] = []
    for step in detail.job.steps:
        if step.take != take:
            continue
        chunks = [c for c in detail.chunks if c.take == take and c.step == step.name]
        states = {frame_state(c.state) for c in chunks}
        order = ("running", "failed", "waiting", "depend", "cancelled", "done", "skipped")
        state = next((s for s in order if s in states), "depend")
        ran = sum(c.fraction for c in chunks if c.state is ChunkState.RUNNING)
        rest = sum(1 for c in chunks if c.state is ChunkState.RUNNING) - ran
        parts = (("done", step.done + ran), ("running", rest), ("failed", float(step.failed)))
        out.append(StepLine(step, state, bar(parts, step.total)))
    return tuple(out)


def frame_state(state: ChunkState) -> str:
    """A chunk's state by the name that frames have on the page."""
    return FRAME_STATE.get(state, str(state))


def strip(detail: JobDetail, take: int) -> dict[str, Any]:
    """The strip of frames of a take, as the page's script draws it.

    `{"runs": [[first, last, state, place in chunks]], "chunks": [{id, frames, worker, attempt, failures, reason}],
    "confidence": {frame: 0 … 1}}`. Frames that a running chunk has finished are done already.
    """
    runs: list[list[Any]] = []
    chunks: list[dict[str, Any]] = []
    confidence: dict[str, float] = {}
    for chunk in detail.chunks:
        if chunk.take != take or chunk.step != StepName.INFER:
            continue
        frames = FrameRange.parse(chunk.frames)
        finished = FrameRange.parse(chunk.done_frames) & frames if chunk.state is ChunkState.RUNNING else FrameRange()
        parts = [(run, "done") for run in finished.runs()]
        parts += [(run, frame_state(chunk.state)) for run in (frames - finished).runs()]
        runs += [[first, last, state, len(chunks)] for (first, last), state in sorted(parts)]
        last_try = chunk.attempts[-1] if chunk.attempts else None
        chunks.append(
            {
                "id": chunk.id,
                "frames": chunk.frames,
                "worker": chunk.worker or (last_try.worker if last_try else ""),
                "attempt": chunk.attempt,
                "failures": chunk.failures,
                "reason": last_try.reason if last_try and chunk.state is ChunkState.FAILED else "",
            }
        )
        confidence |= _confidences(chunk.result)
    return {"runs": runs, "chunks": chunks, "confidence": confidence}


def _confidences(result: Mapping[str, Any]) -> dict[str, float]:
    frames = result.get("frames")
    if not isinstance(frames, Mapping):
        return {}
    found = {str(f): q.get("confidence") for f, q in frames.items() if isinstance(q, Mapping)}
    return {f: round(float(c), 4) for f, c in found.items() if isinstance(c, int | float)}


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One try of a chunk, for the list beside the log."""

    chunk: ChunkView
    attempt: AttemptView
    latest: bool
    state: str
    seconds: float


def attempt_lines(detail: JobDetail, *, now: float) -> tuple[AttemptLine, ...]:
    """Every attempt, chunk by chunk in the order of the work, newest attempt of a chunk first."""
    out: list[AttemptLine] = []
    for chunk in detail.chunks:
        newest = chunk.attempts[-1].number if chunk.attempts else 0
        for attempt in reversed(chunk.attempts):
            state = "done" if attempt.state is AttemptState.SUCCEEDED else str(attempt.state)
            seconds = max(0.0, (attempt.ended_at or now) - attempt.started_at)
            out.append(AttemptLine(chunk, attempt, attempt.number == newest, state, seconds))
    return tuple(out)


def shown_attempt(lines: Sequence[AttemptLine]) -> str:
    """Whose log is opened first: what runs, else what failed last, else what ended last. `CHUNK-ATTEMPT`, or empty."""
    newest = [line for line in lines if line.latest]
    for states in (("running",), ("failed", "lost"), ()):
        fitting = [line for line in newest if not states or line.state in states]
        if fitting:
            last = max(fitting, key=lambda line: (line.attempt.started_at, line.chunk.id))
            return f"{last.chunk.id}-{last.attempt.number}"
    return ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a list of facts."""

    label: str
    value: str
    changed: bool = False
    """Whether a person set it to something other than its default."""


def parameter_facts(task_name: str, take: TakeView) -> tuple[Fact, ...]:
    """A take's parameters under the labels of its task's form; by their bare names when the task isn't installed here."""
    return given_parameters(task_name, take.parameters, take.seed)


def given_parameters(task_name: str, parameters: Mapping[str, Any], seed: int) -> tuple[Fact, ...]:
    """Parameters under the labels of a task's form, with the seed that was drawn where they name none."""
    try:
        entries = {e["name"]: e for e in describe(task(task_name).parameters)["parameters"]}
    except TaskError:
        entries = {}
    out: list[Fact] = []
    for name, value in parameters.items():
        entry = entries.get(name, {})
        shown = seed if entry.get("kind") == "seed" and value is None else value
        text = _plain(shown)
        text = text if text == NOTHING else f"{text} {entry.get('unit', '')}".strip()
        changed = "default" in entry and entry["default"] != value
        out.append(Fact(str(entry.get("label", name)), text, changed))
    if not any(entry.get("kind") == "seed" for entry in entries.values()):
        out.append(Fact("Seed", str(seed)))
    return tuple(out)


NOTHING = "–"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return NOTHING if value is None or value in ((), [], {}, "") else str(value)


def plate_facts(spec: JobSpec) -> tuple[Fact, ...]:
    """What was handed in."""
    plate = spec.plate.plate()
    window = plate.data_window
    keys = sorted({key.frame for key in spec.keys})
    facts = [
        Fact("Plate", spec.plate.pattern),
        Fact("Frames", f"{spec.frames} ({len(FrameRange.parse(spec.frames))})"),
        Fact("Size", f"{window.width} × {window.height}"),
        Fact("Colour space", spec.plate.source_colorspace or spec.plate.colorspace),
        Fact("Rate", str(plate.rate) if plate.rate else ""),
        Fact("Keyframes", ", ".join(map(str, keys)) if len(keys) <= 12 else f"{FrameRange.of(keys)} ({len(keys)})"),
        Fact("Objects", ", ".join(spec.objects()) if len(spec.objects()) > 1 else ""),
        Fact("Cut", spec.cut_path or ""),
        Fact("Clip", str((spec.edit or {}).get("clip", ""))),
        Fact(
            "Model", ", ".join(dict.fromkeys(take.model.card for take in spec.takes if take.model.card)) or spec.model
        ),
        Fact("Codec", spec.codec),
        Fact("Pool", spec.pool),
    ]
    return tuple(fact for fact in facts if fact.value)


@dataclass(frozen=True, slots=True)
class Curve:
    """A measure of a version's frames, drawn over the slider."""

    name: str
    label: str
    help: str
    higher_is_better: bool
    values: Mapping[int, float]
    top: float
    """The value at the top of the plot; 0 lies at the bottom."""

    @property
    def worst(self) -> tuple[int, float]:
        """The frame that a person should look at first, and its value."""
        sign = 1 if self.higher_is_better else -1
        return min(self.values.items(), key=lambda item: (sign * item[1], item[0]))

    def stretches(self, frames: Sequence[int]) -> tuple[str, ...]:
        """Unbroken stretches as SVG points, over 0 … 1000 by 0 … 100, 0 at the bottom."""
        found: list[list[str]] = [[]]
        for place, frame in enumerate(frames):
            if frame in self.values:
                height = 100 - 100 * min(max(self.values[frame] / self.top, 0.0), 1.0)
                found[-1].append(f"{across(place, len(frames)) * 10:.2f},{height:.2f}")
            elif found[-1]:
                found.append([])
        return tuple(" ".join(points) for points in found if points)


def across(place: int, count: int) -> float:
    """Where the frame at `place` of `count` lies over the slider, in percent."""
    return round(100 * place / (count - 1), 3) if count > 1 else 50.0


@dataclass(frozen=True, slots=True)
class Viewer:
    """A published version's frames, ready to be flipped through."""

    version: int
    name: str
    frames: tuple[int, ...]
    kinds: tuple[str, ...]
    rate: float
    keys: tuple[int, ...]
    next_key: int | None
    curves: tuple[Curve, ...]
    """Confidence first, where there is one."""

    def as_json(self) -> dict[str, Any]:
        """For the page's script."""
        measures = {
            c.name: {"label": c.label, "top": c.top, "values": {str(f): round(v, 5) for f, v in c.values.items()}}
            for c in self.curves
        }
        plain = {name: value for name, value in asdict(self).items() if name != "curves"}
        return {**plain, "measures": measures}

    @property
    def marks(self) -> tuple[tuple[int, float], ...]:
        """The keyframes that were given, with where they lie."""
        count = len(self.frames)
        return tuple((frame, across(place, count)) for place, frame in enumerate(self.frames) if frame in self.keys)

    @property
    def next_mark(self) -> float | None:
        """Where the frame lies that should be painted next."""
        return across(self.frames.index(self.next_key), len(self.frames)) if self.next_key in self.frames else None


def viewer(version: VersionView, spec: JobSpec | None, kinds: Sequence[str]) -> Viewer:
    """A version's viewer. `kinds` are the proxies that lie in its folder; `spec` gives rate and keyframes."""
    suggested = version.report.get("next_key")
    rate = spec.plate.plate().rate if spec is not None else None
    return Viewer(
        version=version.id,
        name=version.name,
        frames=tuple(FrameRange.parse(version.frames)),
        kinds=tuple(kinds),
        rate=float(rate.value) if rate is not None else 24.0,
        keys=() if spec is None else tuple(sorted({key.frame for key in spec.keys})),
        next_key=None if suggested is None else int(suggested),
        curves=_curves(version.report.get("frames", ()), "" if spec is None else spec.task),
    )


def _curves(rows: Sequence[Mapping[str, Any]], task_name: str) -> tuple[Curve, ...]:
    """Every measure that some frame has, with the words of its task where that is installed here."""
    try:
        known: Mapping[str, Measure] = {"confidence": CONFIDENCE, **task(task_name).measures}
    except PipelineError:
        known = {"confidence": CONFIDENCE}
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in _flat({n: v for n, v in row.items() if n != "frame"}):
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, {})[int(row["frame"])] = float(value)
    curves = []
    for name, values in found.items():
        measure = known.get(name, known.get(name.split("_")[0]))
        highest = max(values.values())
        curves.append(
            Curve(
                name=name,
                label=measure.label if name in known and measure else name.replace("_", " ").capitalize(),
                help=measure.help if measure else "",
                higher_is_better=measure is not None and measure.better == "higher",
                values=values,
                top=1.0 if 0 <= highest <= 1 and name == "confidence" else highest if highest > 0 else 1.0,
            )
        )
    return tuple(sorted(curves, key=lambda c: (c.name != "confidence", c.name not in known)))


def report_facts(version: VersionView) -> tuple[Fact, ...]:
    """The single numbers of a version's report; what is kept per frame is drawn, not listed."""
    skipped = {"frames", "warnings", "next_key"}
    flat = dict(_flat({k: v for k, v in version.report.items() if k not in skipped}))
    return tuple(_measure(name, value) for name, value in flat.items() if isinstance(value, str | int | float | bool))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        full = name if not before or name.startswith(before) else f"{before}_{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, full)
        else:
            yield full, value


def _measure(name: str, value: str | float | bool) -> Fact:
    """A number under its name; a unit at the name's end goes behind the number."""
    words = name.split("_")
    unit = words.pop() if len(words) > 1 and words[-1] in ("s", "px", "mb") else ""
    text = f"{value:.4g}" if isinstance(value, float) else _plain(value)
    return Fact(" ".join(words).capitalize(), f"{text} {unit}".strip())


def published(job: JobView, take: int) -> VersionView | None:
    """The version that a take has become."""
    return next((v for v in job.versions if v.take == take and v.state is VersionState.PUBLISHED), None)


def frames_text(frames: str) -> str:
    """`1001-1048 · 48 frames`; the text alone when it is no range."""
    try:
        count = len(FrameRange.parse(frames))
    except PipelineError:
        return frames
    return f"{frames} · {count} frame{'' if count == 1 else 's'}" if count else ""


def duration(seconds: float) -> str:
    """`48 s`, `3 m 05 s`, `2 h 10 m`, `4 d 3 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"

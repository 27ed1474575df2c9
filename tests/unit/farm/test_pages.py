"""What the pages show and refuse, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from farm.api.pages import local_path
from farm.records import AttemptView, ChunkView, JobDetail, JobView, StepView, TakeView, VersionView, WorkFacts
from farm.serving import Farm
from farm.settings import FarmSettings
from farm.states import AttemptState, ChunkState, FailureKind, JobState, VersionState
from farm.web import views
from farm.web.render import STATIC, breakable, door, render
from pipeline.errors import PathError
from pipeline.frames import FrameRange
from tests.queue_kit import job_spec, job_steps

NASTY = "<script>alert(1)</script>\"'&"


def attempt(number: int, state: AttemptState = AttemptState.RUNNING, **more: Any) -> AttemptView:
    values = {"worker": "gpu01", "started_at": 100.0 + number, "ended_at": None, "kind": None, "reason": "", "hint": ""}
    return AttemptView(number=number, state=state, folder="", **{**values, **more})


def chunk(number: int, frames: str, state: ChunkState, **more: Any) -> ChunkView:
    values: dict[str, Any] = {
        "take": 0,
        "step": "infer",
        "index": number,
        "context": "",
        "attempt": 0,
        "failures": 0,
        "worker": None,
        "fraction": 0.0,
        "done_frames": "",
        "not_before": 0.0,
        "accepted_folder": "",
        "result": {},
        "attempts": (),
    }
    return ChunkView(id=number, frames=frames, state=state, **{**values, **more})


def version(**more: Any) -> VersionView:
    values: dict[str, Any] = {
        "id": 5,
        "studio": "local",
        "show": "show",
        "sequence": "",
        "shot": "sh010",
        "product": "roto",
        "number": 2,
        "job_id": 1,
        "take": 0,
        "name": "show_sh010_roto_v002",
        "folder": "/nowhere",
        "state": VersionState.PUBLISHED,
        "frames": "1001-1004,1010",
        "layers": ("rgb", "matte"),
        "colorspace": "lin_rec709_scene",
        "report": {},
        "created_at": 0.0,
        "published_at": 10.0,
    }
    return VersionView(**{**values, **more})


def job(**more: Any) -> JobView:
    steps = tuple(
        StepView(0, name, after, total, done, failed)
        for name, after, total, done, failed in (("fit", (), 1, 1, 0), ("infer", ("fit",), 8, 3, 1), ("publish", ("infer",), 1, 0, 0))
    )  # fmt: skip
    values: dict[str, Any] = {
        "id": 1,
        "studio": "local",
        "key": None,
        "name": "show/sh010 roto",
        "show": "show",
        "sequence": "",
        "shot": "sh010",
        "task": "roto",
        "user": "ann",
        "state": JobState.RUNNING,
        "priority": 50,
        "pool": "default",
        "model": "net",
        "created_at": 100.0,
        "started_at": 101.0,
        "ended_at": None,
        "message": "",
        "hint": "",
        "progress": 0.45,
        "running": 1,
        "steps": steps,
        "versions": (version(state=VersionState.RESERVED),),
    }
    return JobView(**{**values, **more})


def detail(*chunks: ChunkView, **more: Any) -> JobDetail:
    return JobDetail(job(**more), (TakeView(0, "take-1", 7, {}),), chunks)


# What is shown


def test_the_strip_has_every_frame_once_and_finished_frames_of_a_running_chunk_are_done() -> None:
    found = views.strip(
        detail(
            chunk(1, "1001-1012", ChunkState.WAITING, step="fit"),
            chunk(2, "1001-1004", ChunkState.SUCCEEDED, result={"frames": {"1002": {"confidence": 0.61234}}}),
            chunk(3, "1005-1008", ChunkState.RUNNING, worker="gpu02", attempt=2, done_frames="1005,1007"),
            chunk(4, "1009-1012", ChunkState.FAILED, attempts=(attempt(1, AttemptState.FAILED, reason="no"),)),
        ),
        0,
    )
    states = {frame: state for first, last, state, _ in found["runs"] for frame in range(first, last + 1)}
    assert sum(last - first + 1 for first, last, _, _ in found["runs"]) == 12
    assert states == {
        **dict.fromkeys(range(1001, 1005), "done"),
        **{1005: "done", 1006: "running", 1007: "done", 1008: "running"},
        **dict.fromkeys(range(1009, 1013), "failed"),
    }
    assert [c["id"] for c in found["chunks"]] == [2, 3, 4]
    assert found["chunks"][1]["worker"] == "gpu02"
    assert found["chunks"][2]["reason"] == "no"
    assert found["confidence"] == {"1002": 0.6123}


def test_frames_of_another_take_are_not_on_the_strip() -> None:
    found = views.strip(detail(chunk(2, "1001-1004", ChunkState.WAITING, take=1)), 0)
    assert found["runs"] == []


def test_a_jobs_bar_stacks_done_running_and_failed_and_never_overflows() -> None:
    line = views.job_line(job(), now=160.0)
    widths = {segment.state: segment.width for segment in line.segments}
    assert widths == pytest.approx({"done": 45.0, "running": 5.0, "failed": 10.0})
    assert (line.percent, line.done, line.total, line.failed, line.seconds) == (45, 4, 10, 1, 60.0)
    assert (line.where, line.version) == ("show / sh010", "v002")
    full = views.bar((("done", 9.0), ("failed", 9.0)), 10.0)
    assert sum(segment.width for segment in full) == 100


@pytest.mark.parametrize(("progress", "shown"), [(0.999, 99), (1.0, 100), (0.0, 0)])
def test_percent_says_100_only_when_all_is_done(progress: float, shown: int) -> None:
    assert views.job_line(job(progress=progress), now=0).percent == shown


def test_a_search_needs_every_word_and_looks_at_all_that_a_row_shows() -> None:
    assert views.matches(job(), ["ann", "v002"])
    assert not views.matches(job(), ["ann", "v003"])
    assert views.matches(job(message="Disk full"), ["disk"])


def test_the_log_that_opens_first_is_of_what_runs_else_of_what_failed_last() -> None:
    failed = chunk(2, "1-4", ChunkState.FAILED, attempts=(attempt(1, AttemptState.FAILED),))
    done = chunk(3, "5-8", ChunkState.SUCCEEDED, attempts=(attempt(9, AttemptState.SUCCEEDED),))
    again = chunk(4, "9-12", ChunkState.RUNNING, attempts=(attempt(1, AttemptState.LOST), attempt(2)))
    assert views.shown_attempt(views.attempt_lines(detail(failed, done, again), now=0)) == "4-2"
    assert views.shown_attempt(views.attempt_lines(detail(failed, done), now=0)) == "2-1"
    assert views.shown_attempt(views.attempt_lines(detail(done), now=0)) == "3-9"
    assert views.shown_attempt(()) == ""


def test_attempts_are_listed_newest_first_within_their_chunk() -> None:
    lines = views.attempt_lines(
        detail(chunk(4, "1-4", ChunkState.RUNNING, attempts=(attempt(1, AttemptState.FAILED), attempt(2)))), now=110.0
    )
    assert [(line.attempt.number, line.latest, line.state) for line in lines] == [
        (2, True, "running"),
        (1, False, "failed"),
    ]
    assert lines[0].seconds == 8.0


def test_the_confidence_curve_breaks_where_a_frame_has_none_and_lies_over_the_slider() -> None:
    rows = [{"frame": 1001, "confidence": 1.0}, {"frame": 1002, "confidence": 0.25}, {"frame": 1004, "confidence": 0}]
    spec = job_spec("1001-1004,1010", keys=({"frame": 1001, "path": "k"}, {"frame": 1010, "path": "k"}))
    view = views.viewer(version(report={"frames": rows, "next_key": 1004}), spec, ("beauty",))
    assert view.frames == (1001, 1002, 1003, 1004, 1010)
    (curve,) = view.curves
    assert curve.stretches(view.frames) == ("0.00,0.00 250.00,75.00", "750.00,100.00")
    assert view.marks == ((1001, 0.0), (1010, 100.0))
    assert view.next_mark == 75.0
    assert curve.worst == (1004, 0.0)
    assert view.as_json()["measures"]["confidence"]["values"] == {"1001": 1.0, "1002": 0.25, "1004": 0.0}


def test_every_measure_is_drawn_in_its_tasks_words_and_its_worst_frame_is_told() -> None:
    rows = [
        {"frame": 1, "patch_error": 0.2, "confidence": 0.5, "flicker": 0.01},
        {"frame": 2, "patch_error": 0.4, "confidence": 0.9, "flicker": 0.03, "layers": {"matte": 2.0}},
    ]
    spec = job_spec("1-2").model_copy(update={"task": "style_transfer"})
    view = views.viewer(version(frames="1-2", report={"frames": rows}), spec, ())
    assert [c.name for c in view.curves] == ["confidence", "patch_error", "flicker", "layers_matte"]
    by_name = {c.name: c for c in view.curves}
    assert by_name["confidence"].worst == (1, 0.5)
    assert by_name["patch_error"].label == "Patch error"
    assert by_name["patch_error"].worst == (2, 0.4)
    assert by_name["patch_error"].stretches(view.frames) == ("0.00,50.00 1000.00,0.00",)


def test_a_version_without_a_report_is_shown_all_the_same() -> None:
    view = views.viewer(version(frames="1001"), None, ())
    assert (view.curves, view.next_mark, views.across(0, 1)) == ((), None, 50.0)


def test_a_reports_numbers_are_listed_with_their_units() -> None:
    report = {
        "frames": [{"frame": 1}],
        "fit": {"seconds": 3.14159, "flow_s": 2.0},
        "flicker": {"matte": {"score": 0.5}},
    }
    facts = {fact.label: fact.value for fact in views.report_facts(version(report=report))}
    assert facts == {"Fit seconds": "3.142", "Fit flow": "2 s", "Flicker matte score": "0.5"}


def test_parameters_carry_their_labels_and_what_was_changed() -> None:
    take = TakeView(0, "take-1", 99, {"iterations": 40, "invert": False, "feather": 2.0, "seed": None})
    facts = {fact.label: fact for fact in views.parameter_facts("roto", take)}
    assert (facts["Iterations"].value, facts["Iterations"].changed) == ("40", True)
    assert (facts["Invert"].value, facts["Invert"].changed) == ("off", False)
    assert facts["Feather"].value == "2.0 px"
    assert facts["Seed"].value == "99", "a drawn seed is on record"
    assert {f.label for f in views.parameter_facts("gone", take)} == {"iterations", "invert", "feather", "seed", "Seed"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (185, "3 m 05 s"), (7800, "2 h 10 m"), (270000, "3 d 3 h")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert views.duration(seconds) == text


# Markup


def test_names_may_break_at_their_joints_and_stay_escaped() -> None:
    assert str(breakable("/a/b_v001")) == "/<wbr>a/<wbr>b_<wbr>v001"
    assert "<script>" not in str(breakable(NASTY))


def test_whatever_a_job_says_is_text_on_the_page() -> None:
    bad = job(user=NASTY, shot=NASTY, message=NASTY, hint=NASTY, name=NASTY)
    html = render(
        "_jobs_live.html",
        lines=[views.job_line(bad, now=0)],
        now=0,
        chips=[],
        filters=[("user", NASTY, "/jobs")],
        q="",
        older=None,
        newest=None,
        filtered=False,
    )
    assert "<script>" not in html
    assert NASTY in unescape(html)


def test_no_template_and_no_script_lets_markup_or_styles_in_by_the_back_door() -> None:
    templates = list((STATIC.parent / "templates").glob("*.html"))
    assert len(templates) > 10
    for path in templates:
        text = path.read_text()
        assert path.name == "door.html" or "|safe" not in text, path.name
        assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?! type=\"module\" src=\"/static/)", text), path.name
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), path.name
    for path in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|https?://", path.read_text()), path.name


def test_the_closed_door_says_plates_open_and_escapes_its_message() -> None:
    html = door("Closed", NASTY, "Run")
    assert "plates open" in html
    assert "<script>" not in html


# Ways in


@pytest.mark.parametrize("path", ["/jobs", "/jobs/3", "/jobs?state=failed&q=a%20b", "/", "/versions/7#frame=1001"])
def test_a_ticket_leads_to_pages_of_this_dispatcher(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "jobs", "//evil.example", "/\\evil.example", "https://evil.example", "/jobs\nSet-Cookie: a=b", "/\t/evil", "/a\\b"],
)  # fmt: skip
def test_a_ticket_leads_nowhere_else(path: str) -> None:
    with pytest.raises(PathError):
        local_path(path)


class Visitor:
    """Asks the whole application, guard and headers included, in this process."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.app = farm.app()

    def ask(self, method: str, path: str, *, token: bool = True, cookie: str = "", **more: Any) -> httpx.Response:
        """One request."""
        headers = {"Accept": "text/html", **more.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {self.farm.token}"
        if cookie:
            headers["Cookie"] = f"platewright={cookie}"

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8763") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(call())


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Visitor]:
    farm = Farm(FarmSettings(data=tmp_path, database_url=f"sqlite:///{tmp_path / 'farm.db'}", publish_root=tmp_path))
    yield Visitor(farm)
    farm.close()


def add_job(farm: Farm, **more: Any) -> int:
    spec = job_spec("1001-1010", **more).model_copy(update={"publish_root": str(farm.settings.publish_root)})
    submitted = asyncio.run(farm.dispatcher.submit(spec, job_steps("1001-1010"), work=WorkFacts("roto", 1)))
    return submitted.job.id


def test_every_answer_carries_the_policy_that_keeps_foreign_scripts_and_frames_out(visitor: Visitor) -> None:
    for path, token in (("/jobs", True), ("/v1/status", True), ("/jobs", False), ("/healthz", False), ("/nope", True)):
        headers = visitor.ask("GET", path, token=token).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin", path
    assert "default-src 'self'; img-src 'self' data:" in visitor.ask("GET", "/jobs").headers["content-security-policy"]
    assert visitor.ask("GET", "/static/app.css").headers["cache-control"] == "no-cache"


def test_a_ticket_becomes_a_strict_cookie_once(visitor: Visitor) -> None:
    path = visitor.ask("POST", "/v1/tickets", json={"to": "/jobs/3"}).json()["path"]
    assert path.endswith("&to=%2Fjobs%2F3")
    entered = visitor.ask("GET", path, token=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/jobs/3")
    set_cookie = entered.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert part in set_cookie
    assert "Secure" not in set_cookie
    assert visitor.ask("GET", path, token=False).status_code == 403
    cookie = set_cookie.partition("=")[2].partition(";")[0]
    page = visitor.ask("GET", "/jobs", token=False, cookie=cookie)
    assert page.status_code == 200
    csrf = re.search(r'<meta name="csrf" content="(\w+)">', page.text)
    assert csrf is not None
    body = {"json": {"to": "/jobs"}}
    assert visitor.ask("POST", "/v1/tickets", token=False, cookie=cookie, **body).status_code == 403
    known = {"x-platewright-csrf": csrf[1]}
    assert visitor.ask("POST", "/v1/tickets", token=False, cookie=cookie, headers=known, **body).status_code == 200
    assert 'name="csrf"' not in visitor.ask("GET", "/jobs").text, "a bearer token needs no such header"


def test_a_ticket_to_another_host_is_refused(visitor: Visitor) -> None:
    assert visitor.ask("POST", "/v1/tickets", json={"to": "//evil.example"}).status_code == 422
    ticket = visitor.ask("POST", "/v1/tickets", json={"to": "/jobs"}).json()["path"].partition("&")[0]
    refused = visitor.ask("GET", f"{ticket}&to=https%3A%2F%2Fevil.example", token=False)
    assert refused.status_code == 403
    assert "location" not in refused.headers


def test_status_counts_what_there_is(visitor: Visitor) -> None:
    add_job(visitor.farm)
    found = visitor.ask("GET", "/v1/status").json()
    assert found["database"] == "sqlite"
    assert found["jobs"]["waiting"] == 1
    assert sum(found["chunks"].values()) == 5
    assert json.loads(visitor.ask("GET", "/healthz", token=False).text) == {"ok": True, "version": found["version"]}


def test_unknown_pages_are_readable_and_404(visitor: Visitor) -> None:
    for path in ("/jobs/99", "/jobs/abc", "/versions/99"):
        reply = visitor.ask("GET", path)
        assert reply.status_code == 404, path
        assert "To the jobs" in reply.text


def test_the_table_is_paged_filtered_and_counted(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.api.pages.PAGE_JOBS", 2)
    jobs = [add_job(visitor.farm, shot=f"sh{n}") for n in (10, 20, 30)]
    first = visitor.ask("GET", "/jobs").text
    assert re.findall(r'id="job-(\d+)"', first) == [str(jobs[2]), str(jobs[1])]
    assert f'href="/jobs?before={jobs[1]}"' in first
    older = visitor.ask("GET", f"/jobs?before={jobs[1]}").text
    assert re.findall(r'id="job-(\d+)"', older) == [str(jobs[0])]
    assert ">all <b>3</b>" in first
    assert re.findall(r'id="job-(\d+)"', visitor.ask("GET", "/jobs?q=sh10").text) == [str(jobs[0])]
    assert "No job fits" in visitor.ask("GET", "/jobs?state=failed").text
    part = visitor.ask("GET", "/jobs?part=true").text
    assert "<html" not in part
    assert 'id="rows"' in part


def test_a_job_of_another_studio_is_not_there(visitor: Visitor) -> None:
    other = add_job(visitor.farm, studio="other")
    assert visitor.ask("GET", f"/jobs/{other}").status_code == 404


def test_previews_that_lie_in_the_jobs_folder_are_shown_in_order(visitor: Visitor) -> None:
    number = add_job(visitor.farm)
    folder = visitor.farm.settings.publish_root / ".platewright" / "work" / f"local-job-{number}" / "preview-0"
    folder.mkdir(parents=True)
    for name in ("1010.jpg", "1002.jpg", "-5.jpg", ".1003.7.part.jpg", "notes.txt"):
        (folder / name).write_bytes(b"x")
    html = visitor.ask("GET", f"/jobs/{number}").text
    assert re.findall(r'id="thumb-(-?\d+)"', html) == ["-5", "1002", "1010"]


def test_the_state_of_every_frame_is_on_the_page(visitor: Visitor) -> None:
    number = add_job(visitor.farm)
    html = visitor.ask("GET", f"/jobs/{number}?part=true").text
    data = re.search(r"data-strip='([^']*)'", html)
    assert data is not None
    strip = json.loads(unescape(data[1]))
    frames = FrameRange.of(f for first, last, _, _ in strip["runs"] for f in range(first, last + 1))
    assert str(frames) == "1001-1010"
    assert {state for _, _, state, _ in strip["runs"]} == {"depend"}


def test_a_failed_attempt_says_why_and_what_to_do() -> None:
    tried = attempt(1, AttemptState.FAILED, kind=FailureKind.ERROR, reason=NASTY, hint="paint a key")
    lines = views.attempt_lines(detail(chunk(2, "1-4", ChunkState.FAILED, attempts=(tried,))), now=0)
    html = render("_job_attempts.html", attempts=lines, shown="2-1")
    assert NASTY in unescape(html)
    assert "<script>" not in html
    assert "paint a key" in html

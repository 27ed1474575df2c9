"""The page in a real browser, over a real dispatcher on a SQLite file; a scripted worker speaks the real protocol."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.acceptance.farmhouse import Farmhouse
from tests.acceptance.scripted import ScriptedWorker, colour_of
from tests.plates import SmallPlate, write_small_plate

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium isn't installed: apt-get install chromium"),
]
_pools = itertools.count(1)
expect.set_options(timeout=20_000)  # a loaded machine is slow, not wrong


@dataclass
class House:
    """A running dispatcher, a plate, a browser."""

    farm: Farmhouse
    plate: SmallPlate
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)

    def job(self, **more: Any) -> tuple[int, ScriptedWorker]:
        """A job of 12 frames in three chunks, in a pool of its own, and a worker for it alone."""
        pool = f"pool{next(_pools)}"
        request = self.plate.request(**{"chunk_frames": 4, "pool": pool, "shot": pool, "user": "ann", **more})
        return self.farm.submit(request)["job"], ScriptedWorker(self.farm.client(), f"worker-{pool}", pool)

    def ticket(self, to: str) -> str:
        """An address that opens a page once."""
        path: str = self.farm.client().post("/v1/tickets", {"to": to})["path"]
        return self.farm.url + path

    def open(self, to: str, **options: Any) -> Page:
        """A signed-in page in a browser profile of its own. What it complains about on its console fails the test."""
        context = self.browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(15_000)
        self.contexts.append(context)
        page = context.new_page()
        page.goto(self.ticket(to))
        return page


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("page")
    farm = Farmhouse(folder)
    try:
        farm.serve("--workers", "0")
        plate = write_small_plate(folder / "shot", count=12)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            yield House(farm, plate, browser)
            browser.close()
    finally:
        farm.close()


@pytest.fixture
def house(running: House) -> Iterator[House]:
    yield running
    while running.contexts:
        running.contexts.pop().close()


def complaints(page: Page) -> list[str]:
    """What the page says on its console from now on: refused scripts and styles, and errors of its own."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def cells(page: Page, state: str) -> Any:
    return page.locator(f"#strip .cell.s-{state}")


def drag(page: Page, first: int, last: int) -> None:
    """Drag over the strip from one frame to another, as a hand does."""
    page.locator("#strip").scroll_into_view_if_needed()
    boxes = [page.locator(f"#frame-{frame}").bounding_box() for frame in (first, last)]
    assert boxes[0] and boxes[1]
    page.mouse.move(boxes[0]["x"] + boxes[0]["width"] / 2, boxes[0]["y"] + 8)
    page.mouse.down()
    page.mouse.move(boxes[1]["x"] + boxes[1]["width"] / 2, boxes[1]["y"] + 8, steps=6)
    page.mouse.up()


def shown_colour(page: Page) -> list[int]:
    """The colour in the middle of the picture that the viewer shows, as the browser decoded it."""
    script = """() => {
        const picture = document.querySelector('.viewer .frame img');
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 1;
        const pen = canvas.getContext('2d');
        pen.drawImage(picture, picture.naturalWidth / 2, picture.naturalHeight / 2, 1, 1, 0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }"""
    found: list[int] = page.evaluate(script)
    return found


def expect_picture(page: Page, frame: int, kind: str) -> None:
    expect(page.locator(".viewer")).to_have_attribute("data-frame", str(frame))
    expect(page.locator(".viewer")).to_have_attribute("data-kind", kind)
    assert max(abs(a - b) for a, b in zip(shown_colour(page), colour_of(frame, kind), strict=True)) <= 6


def ask(house: House, method: str, path: str, **headers: str) -> tuple[int, str]:
    """One request by hand, without a token."""
    connection = http.client.HTTPConnection("127.0.0.1", house.farm.port, timeout=10)
    try:
        connection.request(method, path, body="{}" if method == "POST" else None, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


# Who comes in


def test_a_page_without_a_ticket_is_refused_with_what_to_do(house: House) -> None:
    page = house.browser.new_context().new_page()
    reply = page.goto(f"{house.farm.url}/jobs")
    assert reply is not None
    assert reply.status == 401
    expect(page.get_by_text("plates open", exact=True)).to_be_visible()
    assert ask(house, "GET", "/jobs")[0] == 401
    assert ask(house, "GET", "/static/app.css")[0] == 401
    assert json.loads(ask(house, "GET", "/healthz")[1])["ok"] is True


def test_a_ticket_works_once_and_leads_to_no_other_host(house: House) -> None:
    context = house.browser.new_context()
    page = context.new_page()
    address = house.ticket("/jobs")
    page.goto(address)
    expect(page).to_have_url(f"{house.farm.url}/jobs")
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    again = house.browser.new_context().new_page()
    reply = again.goto(address)
    assert reply is not None
    assert reply.status == 403
    expect(again.get_by_text("plates open", exact=True)).to_be_visible()
    elsewhere = house.ticket("/jobs").replace("%2Fjobs", "%2F%2Fevil.example")
    reply = again.goto(elsewhere)
    assert reply is not None
    assert reply.status == 403
    assert again.url.startswith(house.farm.url)


def test_a_page_of_another_origin_and_a_cookie_alone_change_nothing(house: House) -> None:
    job, _ = house.job()
    page = house.open(f"/jobs/{job}")
    (cookie,) = page.context.cookies()
    sent = f"platewright={cookie['value']}"
    status, _ = ask(house, "POST", f"/v1/jobs/{job}/cancel", Cookie=sent)
    assert status == 403, "a cookie without the page's own header must not act"
    status, _ = ask(house, "POST", f"/v1/jobs/{job}/cancel", Cookie=sent, Origin="http://evil.example")
    assert status == 403

    # The same dispatcher under another name is another origin to a browser: a foreign page that tries with all it has.
    foreign = page.context.new_page()
    foreign.goto(f"http://localhost:{house.farm.port}/healthz")
    outcome = foreign.evaluate(
        """async (address) => {
            try {
                const reply = await fetch(address, {method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}'});
                return reply.type;
            } catch (error) { return 'blocked'; }
        }""",
        f"{house.farm.url}/v1/jobs/{job}/cancel",
    )
    assert outcome in ("opaque", "blocked")
    assert house.farm.job(job)["job"]["state"] == "waiting"


# The table of jobs


def test_jobs_appear_and_change_on_an_open_table_without_a_reload(house: House) -> None:
    page = house.open("/jobs")
    said = complaints(page)
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.evaluate("window.sameDocument = true")
    job, worker = house.job()
    row = page.locator(f"#job-{job}")
    expect(row).to_contain_text("waiting")
    worker.claim()
    expect(row).to_contain_text("running")
    worker.fail("the plate is broken", "export it again")
    expect(row).to_contain_text("failed")
    expect(row).to_contain_text("the plate is broken")
    assert page.evaluate("window.sameDocument")
    assert said == []


def test_chips_and_search_filter_the_table_and_stay_in_the_address(house: House) -> None:
    waiting, _ = house.job()
    failed, worker = house.job()
    worker.claim()
    worker.fail("no luck")
    page = house.open("/jobs")
    page.locator("#chip-failed").click()
    expect(page.locator(f"#job-{waiting}")).to_have_count(0)
    expect(page.locator(f"#job-{failed}")).to_be_visible()
    expect(page).to_have_url(re.compile("state=failed"))
    count = int(page.locator("#chip-failed b").inner_text())
    assert count == page.locator("#rows > tr").count() >= 1
    page.locator("#chip-all").click()
    shot = f"{house.farm.job(waiting)['job']['shot']} "
    page.keyboard.press("/")
    page.keyboard.type(shot.strip())
    expect(page.locator(f"#job-{waiting}")).to_be_visible()
    expect(page.locator(f"#job-{failed}")).to_have_count(0)
    page.reload()
    expect(page.locator("#search")).to_have_value(shot.strip())
    expect(page.locator(f"#job-{failed}")).to_have_count(0)


def test_keys_walk_the_table_and_open_a_job(house: House) -> None:
    older, _ = house.job()
    newer, _ = house.job()
    page = house.open("/jobs")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator(f"#job-{newer}")).to_have_class(re.compile("chosen"))
    page.keyboard.press("j")
    expect(page.locator(f"#job-{older}")).to_have_class(re.compile("chosen"))
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{house.farm.url}/jobs/{newer}")


# One job


def test_cells_of_the_strip_follow_the_work(house: House) -> None:
    job, worker = house.job()
    page = house.open(f"/jobs/{job}")
    said = complaints(page)
    expect(page.locator("#strip .cell")).to_have_count(12)
    expect(cells(page, "depend")).to_have_count(12)
    worker.claim()
    worker.preview(1001)
    expect(page.locator("#preview")).to_have_attribute("data-frame", "1001")
    worker.preview(1006)
    expect(page.locator("#preview")).to_have_attribute("data-frame", "1006")
    expect(page.locator("#thumbs .thumb")).to_have_count(2)
    expect(page.locator("#preview")).to_have_js_property("naturalWidth", 64)
    worker.complete()
    expect(cells(page, "waiting")).to_have_count(12)
    worker.claim()
    expect(cells(page, "running")).to_have_count(4)
    worker.progress(0.5, "1001-1002", note="frame 1002")
    expect(cells(page, "done")).to_have_count(2)
    expect(cells(page, "running")).to_have_count(2)
    expect(page.locator("#note")).to_have_text("frame 1002")
    worker.complete({"frames": {"1001": {"confidence": 0.71}}})
    expect(cells(page, "done")).to_have_count(4)
    page.locator("#frame-1001").hover()
    expect(page.locator("#readout")).to_contain_text("1001")
    expect(page.locator("#readout")).to_contain_text("confidence 0.71")
    expect(page.locator("#readout")).to_contain_text(f"worker-{house.farm.job(job)['job']['pool']}")
    worker.claim()
    worker.fail("the model gave up", "see the log", kind="refused")
    expect(cells(page, "failed")).to_have_count(4)
    expect(page.get_by_role("alert").filter(has_text="the model gave up")).to_contain_text("see the log")
    assert said == []


def test_a_range_is_dragged_and_retried(house: House) -> None:
    job, worker = house.job()
    worker.claim()
    worker.complete()
    worker.infer()
    worker.infer()
    page = house.open(f"/jobs/{job}")
    expect(cells(page, "done")).to_have_count(8)
    expect(page.locator("#retry-frames")).to_be_disabled()
    places = [page.locator(f"#{name}-frames").bounding_box() for name in ("retry", "skip", "clear")]
    drag(page, 1002, 1003)
    assert places == [page.locator(f"#{name}-frames").bounding_box() for name in ("retry", "skip", "clear")]
    expect(page.locator("#strip [aria-selected=true]")).to_have_count(2)
    expect(page.locator("#chosen")).to_contain_text("1002-1003: 2 frames")
    expect(page.locator("#chosen")).to_contain_text("1001-1004")
    with page.expect_request(f"**/v1/jobs/{job}/retry") as asked:
        page.locator("#retry-frames").click()
    assert json.loads(asked.value.post_data or "") == {"frames": "1002-1003"}
    expect(cells(page, "done")).to_have_count(4)
    expect(cells(page, "waiting")).to_have_count(8)
    expect(page.locator("#strip [aria-selected=true]")).to_have_count(0)
    states = {c["frames"]: c["state"] for c in house.farm.job(job)["chunks"] if c["step"] == "infer"}
    assert states == {"1001-1004": "waiting", "1005-1008": "succeeded", "1009-1012": "waiting"}

    drag(page, 1010, 1010)
    page.locator("#skip-frames").click()
    expect(cells(page, "skipped")).to_have_count(4)


def test_a_range_is_selected_with_the_keyboard_alone(house: House) -> None:
    job, _ = house.job()
    page = house.open(f"/jobs/{job}")
    page.locator("#strip").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#chosen")).to_contain_text("1004-1006: 3 frames")
    expect(page.locator("#strip")).to_have_attribute("aria-activedescendant", "frame-1006")
    page.keyboard.press("Escape")
    expect(page.locator("#strip [aria-selected=true]")).to_have_count(0)


def test_the_log_grows_as_it_is_written_and_trouble_is_lit(house: House) -> None:
    job, worker = house.job()
    page = house.open(f"/jobs/{job}")
    chunk = worker.claim()
    worker.progress(0.1, log=("reading <b>plate</b>", "0 errors so far"))
    lines = page.locator("#log p")
    expect(lines.filter(has_text="reading <b>plate</b>")).to_be_visible()
    worker.progress(0.2, log=("WARNING a dark key",))
    expect(lines.filter(has_text="a dark key")).to_have_class("warn")
    assert page.locator("#log p.bad").count() == 0
    worker.fail("it broke", kind="error", log=("Traceback (most recent call last):", "ValueError: no flow"))
    expect(page.locator("#log p.bad")).to_have_count(3)
    expect(page.locator("#log p.bad").last).to_contain_text("FAILED (error): it broke")

    # It is tried again; the first attempt's log stays where it is.
    again = worker.claim(wait_s=15)
    assert (again["chunk_id"], again["attempt"]) == (chunk["chunk_id"], 2)
    worker.progress(0.1, log=("second try",))
    expect(lines.filter(has_text="second try")).to_be_visible()
    expect(page.locator("#job-attempts .attempt")).to_have_count(2)
    page.locator(f"#attempt-{chunk['chunk_id']}-1").click()
    expect(page.locator("#log p.bad")).to_have_count(3)
    expect(lines.filter(has_text="second try")).to_have_count(0)
    page.locator("#only-errors").check()
    expect(lines.filter(has_text="reading")).to_be_hidden()


def test_pause_resume_priority_and_cancel_work_from_the_page(house: House) -> None:
    job, worker = house.job()
    worker.claim()
    page = house.open(f"/jobs/{job}")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_enabled()
    assert worker.progress(0.2)["stop"] == "paused"
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_enabled()
    page.get_by_role("button", name="Raise by ten").click()
    expect(page.locator("#priority")).to_have_attribute("value", "60")
    page.locator("#priority").fill("75")
    page.keyboard.press("Enter")
    expect(page.locator("#priority")).to_have_attribute("value", "75")
    assert house.farm.job(job)["job"]["priority"] == 75
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    assert house.farm.job(job)["job"]["state"] == "waiting" or house.farm.job(job)["job"]["state"] == "running"
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#job-head")).to_have_attribute("data-state", "cancelled")
    assert house.farm.job(job)["job"]["state"] == "cancelled"
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_disabled()


def test_what_the_dispatcher_refuses_is_said_in_its_words(house: House) -> None:
    job, worker = house.job()
    page = house.open(f"/jobs/{job}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.route(f"**/jobs/{job}?*part=true", lambda route: route.abort())  # the page now shows an old state
    worker.claim()
    house.farm.client().post(f"/v1/jobs/{job}/cancel")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".toast.bad")).to_contain_text("cancelled")


# Published frames


def test_the_viewer_flips_frames_by_keys_and_the_picture_really_changes(house: House) -> None:
    job, worker = house.job()
    worker.whole_job()
    page = house.open(f"/jobs/{job}")
    said = complaints(page)
    expect_picture(page, 1001, "overlay")
    page.keyboard.press("ArrowRight")
    expect_picture(page, 1002, "overlay")
    page.keyboard.press("Shift+ArrowRight")
    expect_picture(page, 1012, "overlay")
    page.keyboard.press("ArrowLeft")
    expect_picture(page, 1011, "overlay")
    page.keyboard.press("Home")
    page.keyboard.press("m")
    expect_picture(page, 1001, "matte")
    page.keyboard.press("m")
    expect_picture(page, 1001, "overlay")
    page.get_by_role("button", name="Beauty").click()
    expect_picture(page, 1001, "beauty")
    page.locator(".viewer input[type=range]").fill("7")
    expect_picture(page, 1008, "beauty")
    page.get_by_role("button", name="paint frame 1006 next").click()
    expect_picture(page, 1006, "beauty")
    expect(page.locator("[data-shown-measure]")).to_have_text("confidence 0.79")
    assert len(page.locator(".plot .curve").first.get_attribute("points").split()) == 12  # type: ignore[union-attr]
    assert page.locator(".plot .key").count() == 3
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator(".viewer")).not_to_have_attribute("data-frame", "1006")
    assert said == []


def test_an_open_page_turns_to_the_version_when_it_is_published(house: House) -> None:
    job, worker = house.job()
    page = house.open(f"/jobs/{job}")
    expect(page.locator(".viewer")).to_have_count(0)
    version = worker.whole_job()
    expect_picture(page, 1001, "overlay")
    expect(page.locator("#job-version")).to_contain_text(version["name"])
    expect(page.locator("#job-version")).to_contain_text(version["folder"])
    expect(page.locator("#job-version")).to_contain_text("lin_rec709_scene")
    expect(page.locator("#percent")).to_have_text("100 %")
    page.get_by_role("link", name="Record").click()
    expect(page.get_by_role("heading", name=version["name"]).first).to_be_visible()
    expect_picture(page, 1001, "overlay")
    expect(page.locator(".facts").filter(has_text="Flicker matte score")).to_contain_text("1.25")
    page.goto(f"{page.url}#frame=1009")
    expect_picture(page, 1009, "overlay")
    page.get_by_role("link", name=f"Job {job}").click()
    expect(page).to_have_url(f"{house.farm.url}/jobs/{job}")


def test_the_pages_fit_a_tablet(house: House) -> None:
    job, worker = house.job()
    worker.whole_job()
    page = house.open(f"/jobs/{job}")
    page.set_viewport_size({"width": 768, "height": 1024})
    for address in ("/jobs", f"/jobs/{job}", "/workers"):
        page.goto(house.farm.url + address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} scrolls sideways"


def test_workers_are_listed(house: House) -> None:
    job, worker = house.job()
    worker.claim()
    page = house.open("/workers")
    row = page.locator("tr").filter(has=page.get_by_role("link", name=f"job {job}", exact=True))
    expect(row).to_contain_text("busy")
    expect(row).to_contain_text(house.farm.job(job)["job"]["pool"])


def test_an_open_page_finds_back_to_a_restarted_dispatcher_with_the_whole_state(house: House) -> None:
    job, worker = house.job()
    worker.claim()
    worker.complete()
    page = house.open(f"/jobs/{job}")
    expect(cells(page, "waiting")).to_have_count(12)
    page.evaluate("window.sameDocument = true")
    server = house.farm.processes[-1]
    server.send_signal(signal.SIGKILL)
    server.wait()
    expect(page.locator("#lost")).to_be_visible()
    house.farm.serve("--workers", "0")
    worker.infer()  # very likely before the page has found back: only the whole state shows it
    expect(page.locator("#lost")).to_be_hidden()
    expect(cells(page, "done")).to_have_count(4)
    worker.claim()
    expect(cells(page, "running")).to_have_count(4)
    assert page.evaluate("window.sameDocument"), "the page was reloaded"
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("#job-head")).to_have_attribute("data-state", "paused")

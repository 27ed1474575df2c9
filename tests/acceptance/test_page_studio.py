"""Models, costs, taste, recall and replay in a real browser, over a real dispatcher; a scripted worker does the jobs."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from integrations._shared.client import Client, DispatcherError
from pipeline.frames import FrameRange
from pipeline.media.exr import Frame, Part, write_frame
from pipeline.models.files import sha256_of
from pipeline.plate import Window
from tests.acceptance.farmhouse import Farmhouse
from tests.acceptance.scripted import ScriptedWorker
from tests.acceptance.test_page import ARGUMENTS, CHROMIUM, House, complaints, pytestmark  # noqa: F401 - marks this module
from tests.plates import write_small_plate

SHOTS = ("a", "b", "c")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("studio")
    (folder / "rules").mkdir()
    (folder / "rules" / "local.toml").write_text("[budget]\nmachine_hours = 2.0\nmoney = 90.0\n")
    farm = Farmhouse(
        folder,
        PLATEWRIGHT_RULES=str(folder / "rules"),
        PLATEWRIGHT_CURRENCY="EUR",
        PLATEWRIGHT_MACHINE_HOUR="36000",
    )
    try:
        farm.serve("--workers", "0")
        plate = write_small_plate(folder / "shot", count=12)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            yield House(farm, plate, browser)
            browser.close()
    finally:
        farm.close()


def own_weights(house: House) -> None:
    """Roto goes by its own weights again: those that these tests promote are no net."""
    try:
        while house.farm.client().post("/v1/models/rollback", {"task": "roto"})["model"] is not None:
            pass
    except DispatcherError as error:
        assert error.status in (404, 409), error


@pytest.fixture
def house(running: House) -> Iterator[House]:
    yield running
    while running.contexts:
        running.contexts.pop().close()
    own_weights(running)


def published(house: House, **more: Any) -> int:
    """A version that a scripted worker made."""
    job, worker = house.job(**more)
    worker.whole_job()
    return int(house.farm.job(job)["job"]["versions"][0]["id"])


def weights(folder: Path, number: int) -> Path:
    """A real, if tiny, safetensors file that no other is like."""
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = folder / f"{number}.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", float(number)))
    return path


def write_frames(version: dict[str, Any]) -> None:
    """The frames that a scripted worker leaves out: a training looks at them before it is taken."""
    window = Window.of_size(16, 12)
    planes = dict.fromkeys(("R", "G", "B", "matte.A"), np.zeros((12, 16), np.float16))
    for frame in FrameRange.parse(version["frames"]):
        path = Path(version["folder"]) / f"{version['name']}.{frame:04d}.exr"
        write_frame(path, Frame((Part("", {"colorInteropID": "lin_rec709_scene"}, planes, window, window),)))


def alive(page: Page) -> None:
    """Wait until a page's scripts run: a click before that is nobody's."""
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")


class Studio:
    """Trainings of the house, done by a scripted worker."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.client: Client = house.farm.client()
        for shot in SHOTS:
            version = published(house, show="dune", sequence="sq", shot=shot)
            write_frames(self.client.get(f"/v1/versions/{version}"))
            self.client.post(f"/v1/versions/{version}/reviews", {"kind": "approve"})
        body = {"kind": "training", "show": "dune", "by": "Paul", "reference": "contract 7"}
        self.client.post("/v1/clearances", body)

    def train(self, pool: str) -> tuple[int, ScriptedWorker]:
        """A training that waits for its worker."""
        body = {"task": "roto", "name": "house", "show": "dune", "hold_out": ["dune/sq/c"], "pool": pool}
        job = self.client.post("/v1/models/finetune", body)["job"]
        return job, ScriptedWorker(self.client, f"worker-{pool}", pool)

    def finish(self, worker: ScriptedWorker, number: int, mine: float, theirs: float) -> None:
        """Hand in what a real worker would: the score of the shot, the weights under their hash."""
        scores = {"candidate": {"jf": mine}, "present": {"jf": theirs}}
        if worker.chunk.get("step") != "score":
            assert worker.claim()["step"] == "score"
        worker.complete({"shot": "dune/sq/c", "scores": scores, "seconds": 1.0})
        assert worker.claim()["step"] == "register"
        both = {who: {"value": s["jf"], "shots": {"dune/sq/c": s}} for who, s in scores.items()}
        path = weights(self.house.plate.folder, number)
        model = {"sha256": sha256_of(path), "path": str(path), "family": "net", "facts": {"loss": 0.25}}
        result = {"model": model, "candidate": "house", "against": "its own", "protocol": "p", "measure": "jf"}
        worker.complete({**result, "scores": both})


@pytest.fixture(scope="module")
def studio(running: House) -> Studio:
    return Studio(running)


def test_a_training_is_followed_to_its_card_and_promoted_only_when_it_won(house: House, studio: Studio) -> None:
    job, worker = studio.train("teach1")
    page = house.open(f"/jobs/{job}")
    said = complaints(page)
    expect(page.locator(".tag.kind").first).to_have_text("training")
    expect(page.locator(".piece")).to_have_count(3)
    expect(page.locator("#strip")).to_have_count(0)
    expect(page.locator('a[href^="/versions/"][title*="contract 7"]')).to_have_count(2)
    assert worker.claim()["step"] == "train"
    worker.progress(0.4, note="step 4 of 10")
    expect(page.locator(".piece.s-running")).to_contain_text("running 40 %")
    expect(page.locator("#note")).to_have_text("step 4 of 10")
    worker.complete({"sha256": "0", "facts": {}, "seconds": 1.0})
    assert worker.claim()["step"] == "score"
    expect(page.locator("#training-scores .state.s-running")).to_contain_text("dune/sq/c")
    studio.finish(worker, 1, 0.6, 0.7)
    expect(page.locator("#training-result")).to_contain_text("house@v001 didn't win")
    expect(page.locator("#training-scores")).to_contain_text("-0.1000")
    page.get_by_role("link", name="house@v001", exact=True).click()

    expect(page.locator("h1").filter(has_text="house@v001")).to_contain_text("candidate")
    expect(page.locator("#model-body")).to_contain_text("Paul")
    alive(page)
    page.get_by_role("button", name="Promote", exact=True).click()
    page.locator("#promote [data-send]").click()
    expect(page.locator("#promote .refusal b")).to_contain_text("house@v001 didn't win")
    expect(page.locator("#promote .refusal span")).to_contain_text("override")
    expect(page.locator("#promote")).to_be_visible()
    page.locator("#override").fill("Hair <b>holds</b>")
    page.locator("#promote [data-send]").click()
    expect(page.locator("#promote")).to_be_hidden()
    expect(page.locator("#model-head")).to_contain_text("roto@production")
    expect(page.locator("#model-body")).to_contain_text("answered for: Hair <b>holds</b>")
    expect(page.get_by_role("button", name="Retire", exact=True)).to_be_disabled()
    # The refused promotion is the one thing that the browser itself complained about.
    assert [words for words in said if "409" not in words] == []


def test_models_appear_on_an_open_page_and_roll_back(house: House, studio: Studio) -> None:
    page = house.open("/models")
    said = complaints(page)
    alive(page)
    before = page.locator("#rows tr").count()
    _, worker = studio.train("teach2")
    worker.claim()
    worker.complete({"sha256": "0", "facts": {}, "seconds": 1.0})
    studio.finish(worker, 2, 0.9, 0.7)
    expect(page.locator("#rows tr")).to_have_count(before + 1)
    label = page.locator("#rows tr a").first.inner_text()
    studio.client.post(f"/v1/models/{label}/promote", {"override": "seen"})
    row = page.locator("#rows tr").filter(has_text=label)
    expect(row).to_contain_text("roto@production")
    expect(page.locator("#scores-roto .history li").first).to_contain_text(label)
    dots = page.locator("#scores-roto a .dot.promoted")
    expect(dots.last).to_be_attached()
    assert page.locator("#scores-roto a title").last.text_content().startswith(f"{label}: J&F 0.9000")  # type: ignore[union-attr]
    page.locator("#chip-candidate").click()
    expect(page).to_have_url(re.compile("state=candidate"))
    expect(row).to_have_count(0)
    page.go_back()
    expect(row).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1").filter(has_text=label)).to_be_visible()
    alive(page)
    page.get_by_role("button", name="Roll back", exact=True).click()
    page.locator("#rollback [data-send]").click()
    expect(page.locator("#model-head .alias")).to_have_count(0)
    page.get_by_role("button", name="Retire", exact=True).click()
    page.locator("#retire [data-send]").click()
    expect(page.locator("h1").filter(has_text=label)).to_contain_text("retired")
    page.get_by_role("button", name="Take up again").click()
    expect(page.locator("h1").filter(has_text=label)).to_contain_text("candidate")
    page.goto(house.farm.url + "/models")
    assert said == []


def test_takes_are_picked_and_rated_by_click_and_by_key(house: House) -> None:
    job, worker = house.job(wedge={"feather": [0.0, 2.0]}, chunk_frames=12)
    for _ in range(2):
        assert worker.claim()["step"] == "fit"
        worker.complete()
        worker.infer()
        worker.publish()
    page = house.open(f"/jobs/{job}?take=1")
    said = complaints(page)
    alive(page)
    first, second = page.locator("#candidate-0"), page.locator("#candidate-1")
    first.get_by_role("button", name="Pick", exact=True).click()
    expect(first.locator(".pick")).to_have_text("Picked")
    page.locator("#strip").focus()
    page.keyboard.press(".")
    expect(second.locator(".pick")).to_have_text("Picked")
    expect(first.locator(".pick")).to_have_text("Pick")  # of a job's takes one is picked
    page.keyboard.press("Shift+Digit4")
    expect(second.locator(".star.on")).to_have_count(4)
    first.get_by_role("button", name="2 of 5").click()
    expect(first.locator(".star.on")).to_have_count(2)
    first.get_by_role("button", name="2 of 5").click()
    expect(first.locator(".star.on")).to_have_count(0)
    tastes = {v["take"]: v for v in house.farm.client().get("/v1/versions", shot=house.farm.job(job)["job"]["shot"])}
    assert [tastes[take]["taste"]["rating"] for take in (0, 1)] == [None, 4.0]
    expect(page.locator("#job-cost")).to_contain_text("EUR")
    page.get_by_text("rule looked at").or_(page.get_by_text("rules looked at")).click()
    expect(page.locator(".checks li").first).to_contain_text("budget")
    assert said == []


def test_a_version_is_noted_approved_and_recalled_with_a_change(house: House) -> None:
    version = published(house)
    page = house.open(f"/versions/{version}")
    said = complaints(page)
    alive(page)
    page.locator("#note-text").fill("edge <i>boils</i> at 1004")
    page.locator("#note-send").click()
    expect(page.locator("#taste .note-text")).to_have_text("edge <i>boils</i> at 1004")
    page.locator("#approve").click()
    expect(page.locator("#taste")).to_contain_text("approved by")
    page.locator("#approve").click()
    expect(page.locator("#approve")).to_have_text("Approve")
    page.locator(".viewer").click(position={"x": 5, "y": 5})
    page.keyboard.press("Shift+R")
    expect(page.locator("#recall")).to_be_visible()
    iterations = page.locator('[data-parameter="iterations"]')
    expect(iterations).to_have_value("0")
    iterations.fill("-3")
    page.locator("#recall [data-send]").click()
    expect(page.locator("#recall")).to_be_visible()
    iterations.fill("7")
    expect(page.locator("#recall-changed")).to_have_text("Changed: iterations")
    page.locator("#recall [data-send]").click()
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))
    again = int(page.url.rpartition("/")[2])
    takes = house.farm.job(again)["takes"]
    assert takes[0]["parameters"]["iterations"] == 7
    assert takes[0]["seed"] == 1, "the version's own"
    assert said == []


def test_what_stands_against_a_recall_is_said_in_its_dialog(house: House) -> None:
    version = published(house)
    page = house.open(f"/versions/{version}")
    alive(page)
    moved = house.plate.pattern.folder.with_name("moved")
    house.plate.pattern.folder.rename(moved)
    try:
        page.keyboard.press("Shift+R")
        page.locator("#recall [data-send]").click()
        expect(page.locator("#recall .refusal b")).not_to_be_empty()
        expect(page.locator("#recall")).to_be_visible()
    finally:
        moved.rename(house.plate.pattern.folder)


def test_a_replay_leads_to_its_page_and_its_result_back_to_the_version(house: House) -> None:
    version = published(house)
    page = house.open(f"/versions/{version}")
    said = complaints(page)
    alive(page)
    page.get_by_role("button", name="Replay", exact=True).click()
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))
    job = int(page.url.rpartition("/")[2])
    expect(page.locator(".tag.kind").first).to_have_text("replay")
    expect(page.locator("#job-replay")).to_contain_text("Nothing is published")
    pool = house.farm.job(job)["job"]["pool"]
    worker = ScriptedWorker(house.farm.client(), f"worker-{pool}", pool)
    while worker.claim()["step"] != "compare":
        worker.complete({})
    largest = {"difference": 0.125, "frame": 1003, "channel": "A", "x": 4, "y": 9, "before": 1.0, "after": 0.875}
    layer = {"layer": "matte", "frames_differ": "1003", "pixels_differ": 3, "largest": largest}
    found = {
        "version": version,
        "name": "v",
        "bit_equal": False,
        "sentence": "3 pixels differ",
        "software": {"torch": ["1", "2"]},
    }
    worker.complete({"replay": {**found, "comparison": {"frames": "1001-1012", "layers": [layer]}}})
    expect(page.locator("#job-replay")).to_contain_text("frame 1003, A, pixel 4, 9")
    expect(page.locator("#job-replay")).to_contain_text("was 1, is 2")
    expect(page.locator("#job-picture")).to_be_hidden()
    page.locator("#job-replay a").click()
    expect(page.locator("#again")).to_contain_text("Not the same")
    expect(page.locator("#again")).to_contain_text("0.125")
    assert said == []


def test_costs_are_told_by_period_with_budgets(house: House) -> None:
    published(house, show="ark")
    page = house.open("/usage")
    said = complaints(page)
    expect(page.locator("#totals")).to_contain_text("EUR")
    expect(page.locator("#by-show")).to_contain_text("ark")
    expect(page.locator("#budgets tr").filter(has_text="ark").first).to_contain_text("machine hours")
    expect(page.locator("#days .day rect[class^=c]").first).to_be_visible()
    alive(page)
    page.keyboard.press("1")
    expect(page).to_have_url(re.compile("since=7d"))
    expect(page.locator("#period-7d")).to_have_class(re.compile(r"\bon\b"))
    page.locator("#period-all").click()
    expect(page.locator("#period-all")).to_have_class(re.compile(r"\bon\b"))
    page.reload()
    expect(page.locator("#period-all")).to_have_class(re.compile(r"\bon\b"))
    assert said == []


def test_the_pages_fit_a_tablet(house: House, studio: Studio) -> None:
    version = published(house)
    _, worker = studio.train("teach3")
    worker.claim()
    worker.complete({"sha256": "0", "facts": {}, "seconds": 1.0})
    studio.finish(worker, 3, 0.95, 0.7)
    newest = studio.client.get("/v1/models")[0]
    page: Page = house.open("/models")
    page.set_viewport_size({"width": 768, "height": 1024})
    for address in ("/models", f"/models/{newest['id']}", f"/jobs/{newest['job']}", "/usage", f"/versions/{version}"):
        page.goto(house.farm.url + address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} scrolls sideways"


def test_a_cookie_alone_promotes_and_recalls_nothing(house: House, studio: Studio) -> None:
    newest = studio.client.get("/v1/models")
    version = published(house)
    page = house.open("/models")
    paths = [f"/v1/versions/{version}/recall", f"/v1/versions/{version}/replay", "/v1/models/rollback"]
    paths += [f"/v1/models/{card['id']}/promote" for card in newest[:1]]
    for path in paths:
        status = page.evaluate("async (path) => (await fetch(path, {method: 'POST', body: '{}'})).status", path)
        assert status == 403, path
    with pytest.raises(DispatcherError):
        studio.client.get(f"/v1/models/{10**6}")

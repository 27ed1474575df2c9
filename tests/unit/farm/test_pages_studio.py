"""What the pages of models, costs, trainings and records show, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from farm import promotions, reviews
from farm.cards import CardView, NewCard, ScoreView, add_card, add_score, get_card
from farm.estimates import Accuracy
from farm.promotions import PromotionView
from farm.records import Cost
from farm.reviews import ReviewKind
from farm.serving import Farm
from farm.settings import FarmSettings
from farm.states import ChunkState, JobKind, ModelState
from farm.tokens import Identity, Scope
from farm.turn import Turn
from farm.usage import By, UsageRow, UsageTable
from farm.web import cards, plots, record, spending, trainings, views
from farm.web.render import render
from pipeline.decision import Spend, Usage
from pipeline.jobs.spec import KeySpec, ModelSpec, PlateSpec
from pipeline.jobs.training import JudgedSpec, LessonSpec, TrainingSpec
from pipeline.rules import RuleFile, Rules
from pipeline.tasks.definition import Measure
from tests.queue_kit import job_spec
from tests.unit.farm.test_pages import NASTY, Visitor, add_job, chunk, detail, job

JF = Measure(label="J&F", help="", better="higher")


def score(model: int | None, job: int, value: float, *, protocol: str = "p", at: float = 0.0) -> ScoreView:
    return ScoreView(model, job, protocol, "jf", value, {"show/a": {"jf": value}}, at or job * 100.0)


def judged(*each: tuple[int, int | None, float, float]) -> list[ScoreView]:
    """(job's candidate, present, their values), as the store gives them: newest first."""
    found: list[ScoreView] = []
    for number, (candidate, present, mine, theirs) in enumerate(each, start=1):
        found += [score(candidate, number, mine), score(present, number, theirs)]
    return found[::-1]


def promotion(model: int | None, at: float, **more: Any) -> PromotionView:
    values = {"reason": "won", "evidence": {"gain": 0.1, "against": "house@v001"}, "by": "ann", "label": "house@v002"}
    return PromotionView(id=1, task="roto", alias="production", model=model, at=at, **{**values, **more})


def card(number: int = 1, **more: Any) -> CardView:
    values: dict[str, Any] = {
        "studio": "local", "task": "roto", "name": "house", "number": number, "label": f"house@v{number:03d}",
        "state": ModelState.CANDIDATE, "family": "net", "sha256": "a" * 64, "path": "/w", "base": "efficientnet-lite0",
        "base_model": None, "licence": "MIT", "job": None, "lineage": {}, "facts": {}, "note": "", "created_by": "ann",
        "created_at": 0.0, "retired_at": None,
    }  # fmt: skip
    return CardView(id=number, **{**values, **more})


# Plots


@pytest.mark.parametrize("values", [[0.95, 0.972], [0.0], [5.0, 5.0], [-3.0, 1200.0], [1e-7, 2e-7]])
def test_an_axis_holds_all_its_values_between_round_marks(values: list[float]) -> None:
    axis = plots.of_values(values)
    assert axis.low <= min(values) and axis.high >= max(values)
    assert all(0 <= axis.place(value) <= 100 for value in values)
    assert 2 <= len(axis.ticks) <= 8
    assert [t.at for t in axis.ticks] == sorted((t.at for t in axis.ticks), reverse=True), "larger values lie higher"
    assert len({t.label for t in axis.ticks}) == len(axis.ticks), "no two marks read the same"


@pytest.mark.parametrize("span", [0, 90, 7_200, 86_400 * 3, 86_400 * 400, 86_400 * 9_000])
def test_a_time_axis_has_a_handful_of_marks_whatever_it_spans(span: float) -> None:
    axis = plots.of_times([1_700_000_000.0, 1_700_000_000.0 + span])
    assert 1 <= len(axis.ticks) <= 7 or span == 0
    assert all(0 <= tick.at <= 100 for tick in axis.ticks)


def test_a_line_of_steps_keeps_each_value_until_the_next() -> None:
    assert plots.steps([(0, 50), (40, 20)], until=100) == "0.00,50.00 400.00,50.00 400.00,20.00 1000.00,20.00"
    assert plots.steps([], until=100) == ""


def test_the_line_of_production_moves_with_promotions_and_breaks_where_others_judge() -> None:
    scores = judged((1, None, 0.6, 0.5), (2, 1, 0.7, 0.6))
    plot = cards.score_plot("roto", scores, [promotion(1, 150.0)], {1: "house@v001", 2: "house@v002"})
    assert plot is not None
    assert [dot.promoted for dot in plot.dots] == [True, False]
    (line,) = plot.lines
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert heights[0] == plot.y.place(0.5)
    assert heights[-1] == plot.y.place(0.6), "the promoted model's own score"
    assert "house@v002: J&F 0.7000, house@v001 0.6000" in plot.dots[1].title
    other = [*judged((3, 1, 0.2, 0.1))]
    other = [replace(one, protocol="q", job=9, at=900.0) for one in other]
    broken = cards.score_plot("roto", [*other, *scores], [], {})
    assert broken is not None
    assert len(broken.lines) == 2
    assert [dot.stale for dot in broken.dots] == [True, True, False]


def test_nothing_is_plotted_before_anything_was_judged() -> None:
    assert cards.score_plot("roto", [], [promotion(1, 1.0)], {}) is None


def test_a_card_shows_its_own_judgement_before_those_it_was_held_against() -> None:
    scores = judged((1, None, 0.6, 0.5), (2, 1, 0.7, 0.6))
    labels = {1: "house@v001", 2: "house@v002"}
    table = cards.newest_table(card(1), scores, labels)
    assert table is not None
    assert (table.candidate, table.against) == ("house@v001", cards.OWN)
    assert table.rows[0].gain == pytest.approx(0.1)
    assert cards.newest_table(card(3), scores, labels) is None


def test_a_gain_is_one_whichever_way_is_better_and_the_mean_waits_for_every_shot() -> None:
    lower = Measure(label="Error", help="", better="lower")
    table = cards.shot_table(lower, {"a": (1.0, 3.0), "b": (4.0, 2.0)}, candidate="c", against="p")
    assert [row.gain for row in table.rows] == [2.0, -2.0]
    assert table.mean is not None
    assert table.mean.gain == 0
    assert max(row.candidate_bar for row in table.rows) == 100
    half = cards.shot_table(JF, {"a": (0.5, 0.4), "b": (None, None)}, candidate="c", against="p")
    assert half.mean is None


def test_a_lineage_ends_with_the_weights_that_it_all_began_with() -> None:
    every = {1: card(1), 2: card(2, base="house@v001", base_model=1)}
    assert [(b.label, b.to) for b in cards.bases(every[2], every)] == [
        ("house@v001", "/models/1"),
        ("efficientnet-lite0", ""),
    ]


def test_promotions_say_why() -> None:
    assert cards.promotion_reason(promotion(1, 0)) == "won by 0.1000 over house@v001"
    said = promotion(1, 0, reason="override", evidence={"said": "hair", "refused": "it didn't win"})
    assert cards.promotion_reason(said) == "answered for: hair (without it: it didn't win)"
    back = promotion(None, 0, reason="rollback", evidence={"from": "house@v002"}, label="")
    assert cards.promotion_words(back) == "roto@production went back to the task's own weights, by ann"


# Costs


def row(key: str, machine_s: float, lost_s: float = 0.0) -> UsageRow:
    return UsageRow(key, "", machine_s, 0.0, 0.0, lost_s, 1, 0)


def table(by: By, *rows: UsageRow) -> UsageTable:
    total = row("", sum(r.machine_s for r in rows), sum(r.lost_s for r in rows))
    return UsageTable(by, None, None, "EUR", rows, 0, total)


def test_a_days_bar_is_stacked_by_show_and_what_is_left_is_others() -> None:
    whole = table("day", row("2026-11-20", 7200.0, 600.0), row("2026-11-22", 3600.0))
    shows = {"dune": table("day", row("2026-11-20", 5400.0))}
    plot = spending.day_plot(whole, shows, first=date(2026, 11, 19), last=date(2026, 11, 22))
    assert plot is not None
    assert (plot.shows, len(plot.bars), plot.days, plot.unit) == (("dune", "others"), 4, 1, "hours")
    assert [len(bar.pieces) for bar in plot.bars] == [0, 2, 0, 1]
    dune, others = plot.bars[1].pieces
    assert dune.height == pytest.approx(3 * others.height, abs=0.01)
    assert dune.y + dune.height == pytest.approx(100) and others.y + others.height == pytest.approx(dune.y, abs=0.01)
    assert plot.bars[1].title == "2026-11-20: 2.0 h (dune 1.5 h, others 30.0 min); 10.0 min came to nothing"
    assert all(bar.x + bar.width <= 100 for bar in plot.bars)


def test_a_long_time_has_bars_of_several_days_and_loses_nothing() -> None:
    days = [date.fromordinal(date(2020, 1, 1).toordinal() + 9 * n).isoformat() for n in range(200)]
    plot = spending.day_plot(table("day", *(row(d, 60.0) for d in days)), {}, first=None, last=date(2026, 1, 1))
    assert plot is not None
    assert len(plot.bars) <= plots.MOST_BARS
    told = sum(float(m[1]) for bar in plot.bars if (m := re.search(r": ([\d.]+) (?:min|s) ", bar.title)))
    assert told == pytest.approx(200, abs=3)
    assert spending.day_plot(table("day"), {}, first=None, last=date(2026, 1, 1)) is None


def test_weights_go_by_their_cards_name_in_the_table_of_models() -> None:
    (share,) = spending.shares(
        table("model", row("roto:abc.safetensors@0123456789ab", 4.0, 1.0)), {"0123456789ab": (7, "house@v002")}
    )
    assert (share.name, share.to) == ("roto:house@v002", "/models/7")
    assert (share.spent, share.lost) == (75.0, 25.0)
    (user,) = spending.shares(table("user", row("ann & co", 1.0)))
    assert user.to == "/jobs?user=ann+%26+co"


def test_a_budget_tells_what_is_spent_promised_and_gone() -> None:
    file = RuleFile("local/dune.toml", "0" * 64)
    rules = Rules(
        {"budget.machine_hours": 2.0, "budget.money": 10.0},
        dict.fromkeys(("budget.machine_hours", "budget.money"), file),
        (file,),
    )
    usage = Usage(machine_hours=Spend(spent=1.5, committed=0.6), currency="EUR")
    hours, money = spending.budget_lines("dune", rules, usage)
    assert (hours.spent_bar, hours.committed_bar, hours.over, hours.file) == (75.0, 30.0, True, "local/dune.toml")
    assert money.spent == "not known: no price is set"
    assert not money.over
    assert spending.budget_lines("dune", rules, None) == ()


def test_amounts_read_well() -> None:
    assert [spending.hours(s) for s in (0, 0.5, 41, 204, 45_000)] == ["0 s", "0.5 s", "41 s", "3.4 min", "12.5 h"]
    assert [spending.money(m, "EUR") for m in (0, 0.0016, 12.4)] == ["0.00 EUR", "0.0016 EUR", "12.40 EUR"]
    assert "jobs took longer" in spending.accuracy_words(Accuracy("roto", 4, 0.5, 0.4))


# Records


POLICY = {
    "words": "refused by models.licences (local.toml)",
    "allowed": False,
    "use": "final",
    "rule_files": [{"name": "local.toml", "sha256": "f" * 64}],
    "checks": [
        {"rule": "models.licences", "file": "local.toml", "outcome": "broken", "words": NASTY, "hint": NASTY, "clearances": []},
        {"rule": "clearance.final", "file": "local.toml", "outcome": "kept", "words": "inputs cleared", "hint": "", "clearances": [
            {"by": NASTY, "recorded_by": "sue", "reference": "contract 7", "given_at": "2026-11-22T10:00:00+00:00"}]},
        {"rule": "approval.final", "file": "local.toml", "outcome": "not asked", "words": "it is a temp", "hint": ""},
    ],
}  # fmt: skip


def test_each_rule_that_was_looked_at_is_told_in_words() -> None:
    view = record.policy_view(POLICY)
    assert view is not None
    assert [check.state for check in view.checks] == ["failed", "done", "skipped"]
    assert view.checks[1].cleared == (f"{NASTY}, contract 7, recorded by sue, 2026-11-22",)
    html = render("_policy.html", policy=view)
    assert "<script>" not in html and NASTY in unescape(html)
    assert record.policy_view({}) is None


def test_a_jobs_cost_stands_beside_what_was_said() -> None:
    estimate = {"machine_s": 60.0, "low": 50.0, "high": 90.0, "money": 0.02, "currency": "EUR", "upper": True}
    facts = {f.label: f.value for f in record.cost_facts(Cost(75.0, 0.0, 0.025, 15.0, "EUR"), estimate, 0.25)}
    assert facts["Machine time"] == "1.2 min"
    assert facts["Came to nothing"] == "15 s"
    assert facts["Estimate"] == "1.0 min (50 s to 1.5 min), 0.02 EUR; less where earlier work can be taken over"
    assert facts["Off by"] == "+25 %"
    bare = {f.label: f.value for f in record.cost_facts(Cost(), None, None)}
    assert bare["Money"] == "no price is set" and bare["Estimate"].startswith("none")


def test_a_recall_asks_for_single_values_and_leaves_the_rest() -> None:
    given = {
        "iterations": 40,
        "invert": True,
        "feather": {"keys": {"1": 0.0, "9": 2.0}},
        "points": [[1, 2]],
        "seed": None,
        "old": 3,
    }
    fields = {f.name: f for f in record.recall_fields("roto", given)}
    assert (fields["iterations"].kind, fields["iterations"].value, fields["iterations"].low) == ("number", "40", "0")
    assert (fields["invert"].kind, fields["invert"].value) == ("bool", "true")
    assert fields["feather"].fixed and fields["feather"].value == "a curve of 2 keys"
    assert fields["points"].fixed and fields["points"].value == "1 values"
    assert (fields["seed"].kind, fields["seed"].value, fields["seed"].optional) == ("number", "", True)
    assert fields["old"].fixed, "the task doesn't take it any more"


def test_what_went_in_has_its_hashes() -> None:
    spec = job_spec("1-2", input_hashes={2: "b", 1: "a"}, keys=(KeySpec(frame=1, path="/k.exr", hash="c"),))
    plate, key = record.inputs(spec, spec.takes[0])
    assert plate.hashes == (("1", "a"), ("2", "b"))
    assert (key.label, key.path, key.hashes) == ("Key 1", "/k.exr", (("", "c"),))


@pytest.mark.parametrize(
    ("manifests", "words"), [(0, "not signed"), (3, "3 of 4 frames signed"), (4, "signed, every frame")]
)
def test_a_version_says_whether_it_is_signed(manifests: int, words: str) -> None:
    assert record.Signed(4, manifests).words == words


# Trainings and replays


def lesson(shot: str, version: int = 1) -> LessonSpec:
    plate = PlateSpec(
        pattern="/v.####.exr", frames="1-4", layers=(), data_window=(0, 0, 7, 7), display_window=(0, 0, 7, 7),
        colorspace="lin_rec709_scene", source_colorspace="lin_rec709_scene",
    )  # fmt: skip
    return LessonSpec(
        version=version, name=f"{shot}_v001", show="show", sequence="", shot=shot, product="roto", plate=plate
    )


def training(**more: Any) -> TrainingSpec:
    values: dict[str, Any] = {
        "task": "roto", "studio": "local", "show": "show", "name": "house", "base": ModelSpec(name="efficientnet-lite0"),
        "lessons": (lesson("a"), lesson("b")), "held_out": (lesson("c"), lesson("d")),
        "present": JudgedSpec(label="efficientnet-lite0", model=ModelSpec()),
        "parameters": {"iterations": 40}, "licence": "MIT", "publish_root": "/p", "models_folder": "/m",
    }  # fmt: skip
    return TrainingSpec(**{**values, **more})


def test_a_trainings_work_names_shots_where_another_jobs_names_frames() -> None:
    both = {"candidate": {"jf": 0.9}, "present": {"jf": 0.8}}
    found = detail(
        chunk(1, "1", ChunkState.RUNNING, step="train", index=0, fraction=0.4),
        chunk(2, "1", ChunkState.SUCCEEDED, step="score", index=0, result={"shot": "show/c", "scores": both}),
        chunk(3, "2", ChunkState.DEPEND, step="score", index=1),
        chunk(4, "1", ChunkState.DEPEND, step="register", index=0),
    )  # fmt: skip
    pieces = trainings.pieces(found, training())
    assert [(p.step, p.about, p.state, p.fraction) for p in pieces] == [
        ("train", "2 versions", "running", 0.4),
        ("score", "show/c", "done", 1.0),
        ("score", "show/d", "depend", 0.0),
        ("register", "house", "depend", 0.0),
    ]
    so_far = trainings.scores_so_far(found, training())
    assert [(r.shot, r.candidate, r.present, r.state) for r in so_far.rows] == [
        ("show/c", 0.9, 0.8, "done"),
        ("show/d", None, None, "depend"),
    ]
    assert so_far.mean is None


def test_a_training_goes_by_its_name_and_wears_its_badge() -> None:
    line = views.job_line(job(kind=JobKind.TRAINING, name="roto model house"), now=0)
    assert line.where == "roto model house"
    html = render(
        "_jobs_live.html", lines=[line], now=0, chips=[], filters=[], q="", older=None, newest=None, filtered=False
    )
    assert '<span class="tag kind">training</span>' in html


def test_a_replay_tells_the_largest_difference_and_what_has_another_release() -> None:
    largest = {"difference": 0.25, "frame": 1003, "channel": "matte.A", "x": 5, "y": 7, "before": 1.0, "after": 0.75}
    found = {
        "version": 3, "name": "v", "bit_equal": False, "sentence": "12 pixels differ",
        "software": {"torch": ["2.1", None]},
        "comparison": {"frames": "1001-1004", "types_differ": {"R": "1001"}, "missing_frames": "", "layers": [
            {"layer": "rgb", "frames_differ": "", "pixels_differ": 0, "largest": None},
            {"layer": "matte", "frames_differ": "1003", "pixels_differ": 12, "largest": largest}]},
    }  # fmt: skip
    result = trainings.replay_result(found)
    assert result is not None
    assert [layer["layer"] for layer in result.layers] == ["matte"]
    assert result.others == (("channels of another type", "R (1001)"),)
    assert result.software == (("torch", "2.1", "absent"),)
    html = unescape(render("_replay_facts.html", replay=result))
    for words in ("Not the same", "frame 1003, matte.A, pixel 5, 7", "0.25", "0.75", "was 2.1, is absent"):
        assert words in html
    assert trainings.replay_result(None) is None


# Over the whole application


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Visitor]:
    farm = Farm(FarmSettings(data=tmp_path, database_url=f"sqlite:///{tmp_path / 'farm.db'}", publish_root=tmp_path))
    yield Visitor(farm)
    farm.close()


def put_card(
    farm: Farm, *, studio: str = "local", name: str = "house", sha256: str = "a" * 64, **more: Any
) -> CardView:
    new = NewCard(
        studio=studio, task="roto", name=name, family="net", sha256=sha256, path="/weights.safetensors",
        base="efficientnet-lite0", licence="MIT", created_by=NASTY, note=NASTY, **more,
    )  # fmt: skip
    return asyncio.run(farm.dispatcher.write(partial(add_card, new=new)))


def judge(farm: Farm, mine: int, value: float) -> None:
    job = add_job(farm)

    def op(turn: Turn) -> None:
        add_score(turn, "local", "roto", score(mine, job, value))
        add_score(turn, "local", "roto", score(None, job, 0.5))

    asyncio.run(farm.dispatcher.write(op))


def test_models_are_listed_filtered_and_drawn_and_all_they_say_is_text(visitor: Visitor) -> None:
    lineage = {"versions": [{"version": 1, "name": NASTY, "shot": NASTY, "consent": {"by": NASTY, "reference": NASTY}}]}
    first = put_card(visitor.farm, lineage=lineage)
    second = put_card(visitor.farm, sha256="b" * 64)
    judge(visitor.farm, first.id, 0.7)
    promote = lambda turn: promotions.promote(turn, get_card(turn.tx, "local", first.id), by=NASTY)  # noqa: E731
    asyncio.run(visitor.farm.dispatcher.write(promote))
    retire = lambda turn: promotions.retire(turn, get_card(turn.tx, "local", second.id))  # noqa: E731
    asyncio.run(visitor.farm.dispatcher.write(retire))
    page = visitor.ask("GET", "/models").text
    assert re.findall(r'id="model-(\d+)"', page) == [str(first.id), str(second.id)]
    assert "1 retired" in page
    assert page.count('class="dot promoted"') == 1 and 'class="production"' in page
    assert "roto@production" in page and "<script>alert" not in page
    only = visitor.ask("GET", "/models?state=retired&part=true").text
    assert re.findall(r'id="model-(\d+)"', only) == [str(second.id)]
    assert 'href="/models?state=retired&amp;task=roto"' in only, "a chip adds to the filter in the address"
    assert "<html" not in only
    for ref in (str(first.id), "house@v001", "roto@production"):
        reply = visitor.ask("GET", f"/models/{ref}")
        assert reply.status_code == 200, ref
        assert "<script>alert" not in reply.text and NASTY in unescape(reply.text.replace("<wbr>", ""))
        assert 'href="/versions/1"' in reply.text


def test_a_model_of_another_studio_is_not_there(visitor: Visitor) -> None:
    other = put_card(visitor.farm, studio="other", name="theirs")
    assert "theirs" not in visitor.ask("GET", "/models").text
    for ref in (str(other.id), "theirs@v001", f"sha256:{'a' * 64}"):
        reply = visitor.ask("GET", f"/models/{ref}")
        assert (reply.status_code, "no model is called" in unescape(reply.text)) == (404, True), ref


def test_who_may_not_act_on_models_sees_acts_that_are_off(visitor: Visitor) -> None:
    one = put_card(visitor.farm)
    _, secret = asyncio.run(visitor.farm.dispatcher.create_token("local", "bob", [Scope.REVIEW]))
    page = visitor.ask(
        "GET", f"/models/{one.id}", token=False, headers={"Authorization": f"Bearer {secret}", "Accept": "text/html"}
    ).text
    for act in ("promote", "score", "retire"):
        assert re.search(rf'data-opens="{act}" disabled', page), act
    mine = visitor.ask("GET", f"/models/{one.id}").text
    assert re.search(r'data-opens="promote">', mine)


def test_the_page_of_costs_says_that_no_price_is_set_and_keeps_its_period(visitor: Visitor) -> None:
    for period in ("7d", "30d", "90d", "all"):
        page = visitor.ask("GET", f"/usage?since={period}").text
        assert re.search(rf'id="period-{period}" class="chip on"', page)
        assert "no price is set" in page and "PLATEWRIGHT_MACHINE_HOUR" in page
    assert visitor.ask("GET", "/usage?since=' OR 1=1").status_code == 200


def test_the_page_of_costs_tells_of_a_rule_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "rules" / "local").mkdir(parents=True)
    (tmp_path / "rules" / "local.toml").write_text("[budget]\nmachine_hours = 2.0\n")
    settings = FarmSettings(
        data=tmp_path, database_url=f"sqlite:///{tmp_path / 'farm.db'}", publish_root=tmp_path, rules=tmp_path / "rules"
    )
    farm = Farm(settings)
    try:
        add_job(farm)
        hello = {"hello": {"host": "h", "version": "0", "pools": ["default"], "memory_mb": 9_000}, "wait_s": 0}
        asked = Visitor(farm)
        assert asked.ask("POST", "/v1/workers/w1/claim", json=hello).json()["step"] == "fit"
        assert "machine hours" in asked.ask("GET", "/usage").text
        (tmp_path / "rules" / "local" / "show.toml").write_text("[budget]\nmachine_hour = 2.0\n")
        page = unescape(asked.ask("GET", "/usage").text)
        assert "machine_hour" in page and "local/show.toml" in page
    finally:
        farm.close()


def published(farm: Farm, folder: Path) -> int:
    """A version whose record is on disk."""
    job = add_job(farm, input_hashes={1001: "aa"}, policy=POLICY)
    asked = Visitor(farm)
    hello = {"hello": {"host": "h", "version": "0", "pools": ["default"], "memory_mb": 9_000}, "wait_s": 0}
    while (reply := asked.ask("POST", "/v1/workers/w1/claim", json=hello)).status_code == 200:
        got = reply.json()
        result: dict[str, Any] = {}
        if got["step"] == "publish":
            result = {"version": {"frames": got["frames"], "layers": ["rgb"], "colorspace": "x"}, "report": {}}
            place = Path(got["version"]["folder"])
            place.mkdir(parents=True)
            (place / f"{got['version']['name']}.json").write_text(json.dumps({"software": {"torch": NASTY}}))
            (place / "one.c2pa").touch()
        body = {"chunk_id": got["chunk_id"], "attempt": got["attempt"], "result": result}
        assert asked.ask("POST", "/v1/workers/w1/complete", json=body).json()["accepted"]
        if got["step"] == "publish":
            break
    return int(farm.dispatcher.job(farm.settings.studio, job).job.versions[0].id)


def test_a_versions_page_tells_its_record_and_what_is_thought_of_it_as_text(visitor: Visitor, tmp_path: Path) -> None:
    version = published(visitor.farm, tmp_path)
    who = Identity(studio="local", name=NASTY, scopes=frozenset({Scope.REVIEW, Scope.WRANGLE}))
    for kind, value, text in ((ReviewKind.NOTE, 0, NASTY), (ReviewKind.RATE, 4, ""), (ReviewKind.APPROVE, 1, "")):
        asyncio.run(
            visitor.farm.dispatcher.write(
                partial(reviews.add, version=version, who=who, kind=kind, value=value, text=text)
            )
        )
    page = visitor.ask("GET", f"/versions/{version}").text
    assert "<script>alert" not in page
    plain = unescape(page.replace("<wbr>", ""))
    for words in (
        f"approved by {NASTY}",
        "rated it 4",
        "1 of 10 frames signed",
        "plates provenance",
        "3 rules looked at",
    ):
        assert words in plain, words
    assert plain.count(NASTY) >= 4
    part = visitor.ask("GET", f"/versions/{version}?part=true").text
    assert 'id="taste"' in part and "<html" not in part


def test_a_record_that_is_broken_or_huge_leaves_the_page_standing(visitor: Visitor, tmp_path: Path) -> None:
    version = published(visitor.farm, tmp_path)
    view = visitor.farm.dispatcher.version("local", version)
    sidecar = Path(view.folder) / f"{view.name}.json"
    for text in ("{", "[]", '{"software": 3}', "[" * 100_000, " " * (9 << 20)):
        sidecar.write_text(text)
        reply = visitor.ask("GET", f"/versions/{version}")
        assert (reply.status_code, "<summary>Software</summary>" in reply.text) == (200, False)


def test_the_pages_are_made_within_a_tenth_of_a_second(visitor: Visitor, tmp_path: Path) -> None:
    version = published(visitor.farm, tmp_path)
    for number in range(40):
        one = put_card(visitor.farm, sha256=f"{number:064x}")
        judge(visitor.farm, one.id, 0.5 + number / 100)
    for path in ("/models", f"/models/{one.id}", "/usage?since=all", f"/versions/{version}", "/jobs/1"):
        visitor.ask("GET", path)
        took = []
        for _ in range(3):
            started = time.perf_counter()
            assert visitor.ask("GET", path).status_code == 200, path
            took.append(time.perf_counter() - started)
        assert min(took) < 0.1, (path, took)

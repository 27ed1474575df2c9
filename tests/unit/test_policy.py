"""The gate before dispatch: each rule both ways, what counts as a yes, and a decision that answers for itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decision import check_json
from pipeline.errors import RuleError
from pipeline.policy import (
    NO_RULES,
    Check,
    Clearance,
    Decision,
    Spend,
    Subject,
    TrainingVersion,
    Usage,
    UsedModel,
    decide,
    decide_training,
    may_promote,
    period_start,
    use_of,
)
from pipeline.provenance import to_plain
from pipeline.rules import RuleFile, Rules, RuleSet, merged, parse_rules, spoken
from tests.unit.test_rules import SHOW, STUDIO, rule_sets

NOW = datetime(2026, 5, 20, 15, 30, tzinfo=UTC).timestamp()
"""A Wednesday."""
DAY = 86_400.0
OURS = UsedModel(name="hero@v003", sha256="c" * 64, licence="LicenseRef-acme", state="approved", registered=True)
PATH = UsedModel(name="net.safetensors", sha256="d" * 64)
SHIPPED = UsedModel(name="efficientnet-lite0", licence="Apache-2.0", shipped=True)


def rules(text: str, file: RuleFile = STUDIO) -> Rules:
    return merged([(file, parse_rules(text.encode(), file.name))])


def subject(*models: UsedModel, **given: Any) -> Subject:
    asked = {"studio": "acme", "show": "dune", "sequence": "sq010", "shot": "sh010", "task": "roto", "user": "ann"}
    return Subject(**{**asked, "models": models, **given})


def yes(kind: Any = "inputs", **given: Any) -> Clearance:
    said = {"by": "A. Stone", "recorded_by": "legal", "reference": "contract 12", "given_at": NOW - DAY, "id": 7}
    return Clearance(kind=kind, **{"show": "dune", **said, **given})


def broken(decision: Decision) -> list[str]:
    assert decision.allowed == (not decision.refusals())
    return [check.rule for check in decision.checks if not check.kept]


def fault_words(decision: Decision) -> tuple[str, str, str]:
    (fault,) = decision.refusals()
    return fault.where, fault.message, fault.hint


# Models


LICENCES = '[models]\nlicences = ["Apache-2.0", "LicenseRef-acme"]\ntemp_licences = ["CC-BY-NC-4.0"]'


@pytest.mark.parametrize("use", ["temp", "final"])
@pytest.mark.parametrize("licence", ["Apache-2.0", "apache-2.0", "LicenseRef-acme"])
def test_weights_under_an_allowed_licence_may_be_used(use: Any, licence: str) -> None:
    assert decide(subject(replace(OURS, licence=licence), use=use), rules(LICENCES), now=NOW).allowed


@pytest.mark.parametrize("use", ["temp", "final"])
def test_weights_under_another_licence_are_refused_by_name(use: Any) -> None:
    decision = decide(subject(SHIPPED, replace(OURS, licence="GPL-3.0-only"), use=use), rules(LICENCES), now=NOW)
    where, message, hint = fault_words(decision)
    assert where == "rule models.licences (acme.toml)"
    assert message == f"hero@v003 is licensed GPL-3.0-only, which a {use} of this show may not use"
    assert ("CC-BY-NC-4.0" in hint) == (use == "temp")
    assert "whoever keeps acme.toml" in hint


def test_a_licence_of_temps_is_refused_in_a_final_alone() -> None:
    theirs = replace(OURS, licence="CC-BY-NC-4.0")
    temp = decide(subject(theirs, use="temp"), rules(LICENCES), now=NOW)
    assert [(check.rule, check.outcome) for check in temp.checks] == [("models.temp_licences", "kept")]
    where, message, hint = fault_words(decide(subject(theirs, use="final"), rules(LICENCES), now=NOW))
    assert where == "rule models.licences (acme.toml)"
    assert "only a temp may use (models.temp_licences in acme.toml)" in message
    assert "submit it as a temp" in hint


def test_a_licence_that_is_nearly_written_right_is_told_so() -> None:
    _, _, hint = fault_words(decide(subject(replace(OURS, licence="Apache2.0")), rules(LICENCES), now=NOW))
    assert "if apache-2.0 is meant" in hint


@pytest.mark.parametrize("model", [PATH, replace(OURS, licence=""), replace(SHIPPED, licence="")])
def test_weights_of_unknown_licence_break_a_list_of_licences(model: UsedModel) -> None:
    decision = decide(subject(model), rules(LICENCES), now=NOW)
    assert broken(decision) == ["models.licences"]
    assert "isn't known" in decision.refusals()[0].message
    assert decide(subject(model), NO_RULES, now=NOW).allowed


def test_an_empty_list_of_licences_allows_none() -> None:
    assert broken(decide(subject(SHIPPED), rules("[models]\nlicences = []"), now=NOW)) == ["models.licences"]


@pytest.mark.parametrize(
    ("rule", "use", "allowed"),
    [
        ("never", "temp", False), ("never", "final", False), ("temp", "temp", True), ("temp", "final", False),
        ("always", "temp", True), ("always", "final", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("licences", ["", 'licences = ["MIT"]'])
def test_weights_without_a_card_are_what_the_rule_says(rule: str, use: Any, allowed: bool, licences: str) -> None:
    held = rules(f'[models]\nunregistered = "{rule}"\n{licences}')
    decision = decide(subject(PATH, use=use), held, now=NOW)
    assert broken(decision) == ([] if allowed else ["models.unregistered"])
    if not allowed:
        assert f"net.safetensors has no card, and a {use} may not use it" in decision.refusals()[0].message
        assert ("submit it as a temp" in decision.refusals()[0].hint) == (rule == "temp")


@pytest.mark.parametrize("model", [replace(OURS, licence=""), replace(SHIPPED, licence="")])
def test_leave_for_the_unregistered_is_none_for_a_card_without_a_licence(model: UsedModel) -> None:
    held = rules('[models]\nunregistered = "always"\nlicences = ["MIT"]')
    assert broken(decide(subject(model), held, now=NOW)) == ["models.licences"]


def test_a_stated_licence_counts_without_a_card_too() -> None:
    held = rules('[models]\nunregistered = "always"\nlicences = ["MIT"]')
    assert broken(decide(subject(replace(PATH, licence="GPL-3.0-only")), held, now=NOW)) == ["models.licences"]


def test_registered_and_shipped_weights_need_no_leave_of_the_unregistered() -> None:
    held = rules('[models]\nunregistered = "never"\nstates = ["approved"]')
    assert decide(subject(OURS, SHIPPED, use="final"), held, now=NOW).allowed


@pytest.mark.parametrize(
    ("state", "use", "allowed"),
    [
        ("approved", "final", True), ("approved", "temp", True), ("candidate", "final", False),
        ("candidate", "temp", True), ("retired", "final", False), ("retired", "temp", False), ("", "temp", False),
    ],
)  # fmt: skip
def test_a_cards_state_decides_what_it_may_be_used_for(state: str, use: Any, allowed: bool) -> None:
    held = rules('[models]\nstates = ["approved"]')
    decision = decide(subject(replace(OURS, state=state), use=use), held, now=NOW)
    assert broken(decision) == ([] if allowed else ["models.states"])
    assert all(("promote" in fault.hint) == (state == "candidate") for fault in decision.refusals())
    assert decide(subject(replace(OURS, state=state), use=use), rules("[models]"), now=NOW).allowed


def test_each_of_several_models_is_looked_at() -> None:
    held = rules(LICENCES + '\nstates = ["approved"]')
    bad = [replace(OURS, name="one", licence="MIT"), OURS, replace(OURS, name="two", state="retired")]
    decision = decide(subject(*bad, use="final"), held, now=NOW)
    assert [(check.rule, check.about) for check in decision.checks if not check.kept] == [
        ("models.licences", "one"),
        ("models.states", "two"),
    ]
    assert len(decision.checks) == 6


def test_a_job_without_weights_keeps_every_rule_on_them() -> None:
    decision = decide(subject(), rules(LICENCES + '\nunregistered = "never"\nstates = []'), now=NOW)
    assert [(check.rule, check.outcome) for check in decision.checks] == [
        (f"models.{name}", "not asked") for name in ("unregistered", "licences", "states")
    ]


# What it is for


def test_a_job_that_does_not_say_is_what_the_rules_say_and_else_a_temp() -> None:
    final = rules('[use]\ndefault = "final"')
    assert use_of(subject(), NO_RULES) == "temp"
    assert use_of(subject(use="final"), NO_RULES) == "final"
    assert (use_of(subject(), final), use_of(subject(use="temp"), final)) == ("final", "temp")
    decision = decide(subject(), final, now=NOW)
    assert (decision.use, [check.outcome for check in decision.checks]) == ("final", ["kept"])
    assert [check.outcome for check in decide(subject(use="temp"), final, now=NOW).checks] == ["not asked"]


def test_the_default_use_decides_which_rules_count() -> None:
    text = '[models]\nunregistered = "temp"\n[use]\ndefault = '
    assert decide(subject(PATH), rules(text + '"temp"'), now=NOW).allowed
    assert broken(decide(subject(PATH), rules(text + '"final"'), now=NOW)) == ["models.unregistered"]


# Clearance


INPUTS = '[clearance]\nfinal = ["inputs"]\n'


def test_a_final_needs_the_clearance_that_its_show_asks_for() -> None:
    where, message, hint = fault_words(decide(subject(use="final"), rules(INPUTS), now=NOW))
    assert where == "rule clearance.final (acme.toml)"
    assert message == "a final of dune/sq010/sh010 needs a clearance of the kind inputs"
    assert hint == "anyone with the right may record one for dune/sq010/sh010"
    assert decide(subject(use="final"), rules(INPUTS), [yes()], now=NOW).allowed
    assert decide(subject(use="temp"), rules(INPUTS), now=NOW).allowed


def test_a_temp_has_a_list_of_its_own_and_each_kind_is_needed() -> None:
    held = rules('[clearance]\ntemp = ["inputs", "training"]')
    assert broken(decide(subject(), held, [yes()], now=NOW)) == ["clearance.temp"]
    assert decide(subject(), held, [yes(), yes("training")], now=NOW).allowed
    assert decide(subject(use="final"), held, now=NOW).allowed


@pytest.mark.parametrize(
    ("address", "covers"),
    [
        ({}, True), ({"sequence": "sq010"}, True), ({"sequence": "sq010", "shot": "sh010"}, True),
        ({"show": "other"}, False), ({"sequence": "sq020"}, False), ({"sequence": "sq010", "shot": "sh020"}, False),
        ({"sequence": "sq020", "shot": "sh010"}, False), ({"shot": "sh010"}, False), ({"sequence": "sq01"}, False),
    ],
)  # fmt: skip
def test_a_clearance_counts_for_its_show_its_sequence_or_its_shot(address: dict[str, str], covers: bool) -> None:
    assert decide(subject(use="final"), rules(INPUTS), [yes(**address)], now=NOW).allowed == covers


def test_a_shot_without_a_sequence_is_covered_by_its_own_clearance_and_by_the_shows() -> None:
    alone = subject(use="final", sequence="")
    assert alone.address == "dune/sh010"
    assert decide(alone, rules(INPUTS), [yes(shot="sh010")], now=NOW).allowed
    assert decide(alone, rules(INPUTS), [yes()], now=NOW).allowed
    assert not decide(alone, rules(INPUTS), [yes(sequence="sh010")], now=NOW).allowed
    assert not decide(alone, rules(INPUTS), [yes(shot="sh020")], now=NOW).allowed


def test_a_withdrawn_clearance_does_not_count_and_the_refusal_says_when() -> None:
    gone = yes(withdrawn_at=datetime(2026, 5, 2, 23, tzinfo=UTC).timestamp(), withdrawn_by="bo")
    _, message, _ = fault_words(decide(subject(use="final"), rules(INPUTS), [gone], now=NOW))
    assert message.endswith("kind inputs: that of A. Stone was withdrawn on 2026-05-02")
    assert decide(subject(use="final"), rules(INPUTS), [gone, yes()], now=NOW).allowed
    assert decide(subject(use="final"), rules(INPUTS), [replace(gone, withdrawn_at=NOW + 1)], now=NOW).allowed
    assert not decide(subject(use="final"), rules(INPUTS), [replace(gone, withdrawn_at=NOW)], now=NOW).allowed


def test_only_the_yes_of_those_who_are_named_counts_by_the_token_that_recorded_it() -> None:
    held = rules(INPUTS + 'by = { inputs = ["legal"], training = ["ann"] }')
    assert decide(subject(use="final"), held, [yes()], now=NOW).allowed
    forged = yes(by="legal", recorded_by="ann")
    _, message, hint = fault_words(decide(subject(use="final"), held, [forged], now=NOW))
    assert "that of ann doesn't count (clearance.by.inputs)" in message
    assert hint == "legal may record one for dune/sq010/sh010"
    assert decide(subject(use="final"), rules(INPUTS + "by = { inputs = [] }"), [forged], now=NOW).allowed


def test_a_clearance_of_another_kind_does_not_count() -> None:
    decision = decide(subject(use="final"), rules(INPUTS), [yes("training"), yes("final")], now=NOW)
    assert broken(decision) == ["clearance.final"]


# Approval


APPROVAL = '[approval]\nfinal = ["vfx supervisor", "producer"]\n'


def test_a_final_needs_the_approval_of_one_who_is_named() -> None:
    where, message, hint = fault_words(decide(subject(use="final"), rules(APPROVAL), now=NOW))
    assert where == "rule approval.final (acme.toml)"
    assert message == "a final of dune/sq010/sh010 needs the approval of vfx supervisor or producer"
    assert "may record a clearance of the kind final for dune/sq010/sh010" in hint
    approved = yes("final", recorded_by="producer", shot="sh010", sequence="sq010")
    decision = decide(subject(use="final"), rules(APPROVAL), [approved], now=NOW)
    assert decision.allowed
    assert decision.checks[0].clearances == (approved,)


@pytest.mark.parametrize(
    "wrong",
    [
        yes("final"), yes("inputs", recorded_by="producer"), yes("final", by="producer"),
        yes("final", recorded_by="producer", withdrawn_at=NOW - 1),
        yes("final", recorded_by="producer", sequence="sq010", shot="sh020"),
    ],
)  # fmt: skip
def test_another_yes_is_no_approval(wrong: Clearance) -> None:
    assert broken(decide(subject(use="final"), rules(APPROVAL), [wrong], now=NOW)) == ["approval.final"]


def test_who_is_named_may_submit_it_and_a_temp_needs_nobody() -> None:
    by_producer = decide(subject(use="final", user="producer"), rules(APPROVAL), now=NOW)
    assert (by_producer.allowed, by_producer.checks[0].words) == (
        True,
        "submitted by producer, whose approval counts",
    )
    temp = decide(subject(use="temp"), rules(APPROVAL), now=NOW)
    assert (temp.allowed, temp.checks[0].outcome) == (True, "not asked")
    assert decide(subject(use="final"), rules("[approval]\nfinal = []"), now=NOW).allowed


def test_an_approval_must_be_recorded_by_one_whose_yes_counts_for_finals_too() -> None:
    held = rules(APPROVAL + '[clearance]\nby = { final = ["producer", "legal"] }')
    of = {name: [yes("final", recorded_by=name)] for name in ("producer", "vfx supervisor", "legal")}
    assert [name for name, said in of.items() if decide(subject(use="final"), held, said, now=NOW).allowed] == [
        "producer"
    ]
    nobody = rules(APPROVAL + '[clearance]\nby = { final = ["legal"] }')
    for said in of.values():
        assert broken(decide(subject(use="final"), nobody, said, now=NOW)) == ["approval.final"]


def test_who_may_promote() -> None:
    held = rules('[approval]\npromote = ["head of ml", "bo"]')
    assert may_promote("bo", held).kept
    refused = may_promote("ann", held)
    assert not refused.kept
    assert (refused.fault.where, refused.fault.message, refused.fault.hint) == (
        "rule approval.promote (acme.toml)",
        "ann may not promote a model of this studio",
        "ask head of ml or bo",
    )
    for open_to_all in (NO_RULES, rules("[approval]\npromote = []")):
        assert (may_promote("ann", open_to_all).kept, may_promote("ann", open_to_all).outcome) == (True, "not asked")


# Budget


@pytest.mark.parametrize(
    ("spend", "allowed"),
    [
        (Spend(spent=0, committed=0, asked=10), True), (Spend(spent=0, committed=0, asked=10.01), False),
        (Spend(spent=5, committed=3, asked=2), True), (Spend(spent=5, committed=3, asked=2.5), False),
        (Spend(spent=5, committed=3, asked=None), True), (Spend(spent=5, committed=5, asked=None), False),
        (Spend(spent=5, committed=None, asked=5), True), (Spend(spent=5, committed=None, asked=6), False),
        (Spend(spent=10, committed=0, asked=0), True), (Spend(spent=11, committed=0, asked=0), False),
        (Spend(spent=None, committed=0, asked=0), False), (Spend(), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["money", "machine_hours", "gpu_hours"])
def test_a_budget_holds_what_is_spent_committed_and_asked(name: str, spend: Spend, allowed: bool) -> None:
    decision = decide(subject(), rules(f"[budget]\n{name} = 10"), (), Usage(**{name: spend}), now=NOW)
    assert broken(decision) == ([] if allowed else [f"budget.{name}"])
    unbound = decide(subject(), rules('[budget]\nperiod = "day"'), (), Usage(**{name: spend}), now=NOW)
    assert unbound.allowed


def test_a_refused_budget_tells_every_amount_and_the_period() -> None:
    usage = Usage(money=Spend(spent=1640, committed=120.5, asked=55), currency="EUR")
    decision = decide(subject(), rules('[budget]\nmoney = 1800\nperiod = "week"'), (), usage, now=NOW)
    where, message, hint = fault_words(decision)
    assert where == "rule budget.money (acme.toml)"
    assert message == (
        "dune may spend 1,800.00 EUR this week: 1,640.00 EUR spent, 120.50 EUR committed, this asks 55.00 EUR"
    )
    assert "whoever keeps acme.toml" in hint
    assert decision.checks[0].asks == {
        "most": 1800.0, "period": "week", "period_file": "acme.toml", "spent": 1640, "committed": 120.5, "asked": 55,
    }  # fmt: skip


def test_a_budget_without_known_amounts_lets_nothing_through() -> None:
    decision = decide(subject(), rules("[budget]\nmoney = 10\ngpu_hours = 1"), now=NOW)
    assert broken(decision) == ["budget.money", "budget.gpu_hours"]
    assert "set the farm's prices" in decision.refusals()[0].hint
    assert all("isn't known" in fault.message for fault in decision.refusals())


def test_an_unknown_estimate_is_told() -> None:
    spend = Spend(spent=1, committed=1, asked=None)
    decision = decide(subject(), rules("[budget]\ngpu_hours = 10"), (), Usage(gpu_hours=spend), now=NOW)
    assert decision.checks[0].words.endswith("this asks an amount that isn't known")


@pytest.mark.parametrize(
    ("period", "start"),
    [("day", (2026, 5, 20)), ("week", (2026, 5, 18)), ("month", (2026, 5, 1)), ("total", None)],
)
def test_a_period_begins_at_midnight_in_utc(period: Any, start: tuple[int, int, int] | None) -> None:
    expected = None if start is None else datetime(*start, tzinfo=UTC).timestamp()
    assert period_start(period, NOW) == expected
    if expected is not None:
        assert period_start(period, expected) == expected
        before = period_start(period, expected - 1)
        assert before is not None and before < expected


# Training


def version(name: str, *clearances: Clearance, **given: str) -> TrainingVersion:
    return TrainingVersion(
        name=name, clearances=clearances, **{"show": "dune", "sequence": "sq010", "shot": "sh010", **given}
    )


def training(versions: list[TrainingVersion], held: dict[str, Rules], *models: UsedModel, **given: Any) -> Decision:
    return decide_training(subject(*models, **given), versions, held, now=NOW)


@pytest.mark.parametrize("held", [NO_RULES, rules("[clearance]\ntraining = []"), rules("[clearance]\nfinal = []")])
def test_no_version_is_learned_from_without_consent_rules_or_none(held: Rules) -> None:
    consented = version("v001", yes("training"))
    for missing in (version("v002"), version("v002", yes("inputs")), version("v002", yes("training", show="other"))):
        decision = training([consented, missing], {"dune": held})
        assert [(c.kept, c.about) for c in decision.checks] == [
            (True, "v001 of dune/sq010/sh010"),
            (False, "v002 of dune/sq010/sh010"),
        ]
    assert training([consented], {"dune": held}).allowed


def test_withdrawn_consent_is_none() -> None:
    decision = training([version("v001", yes("training", withdrawn_at=NOW - DAY))], {"dune": NO_RULES})
    where, message, hint = fault_words(decision)
    assert where == "rule clearance.training (always)"
    assert "withdrawn on 2026-05-19" in message
    assert hint == "anyone with the right may record one for dune/sq010/sh010"


def test_consent_is_theirs_whom_the_versions_own_show_names() -> None:
    held = {"dune": NO_RULES, "arrival": rules('[clearance.by]\ntraining = ["producer"]', RuleFile("a.toml", "e" * 64))}
    legal = yes("training", show="arrival")
    named = yes("training", show="arrival", recorded_by="producer")
    assert broken(training([version("v001", legal, show="arrival")], held)) == ["clearance.training"]
    allowed = training([version("v001", yes("training")), version("v002", named, show="arrival")], held)
    assert allowed.allowed
    assert [file.name for file in allowed.files] == ["a.toml"]
    with pytest.raises(KeyError):
        training([version("v001", yes("training", show="third"), show="third")], held)


def test_a_show_may_ask_for_more_than_consent() -> None:
    held = {"dune": rules('[clearance]\ntraining = ["inputs"]')}
    assert broken(training([version("v001", yes("training"))], held)) == ["clearance.training"]
    assert training([version("v001", yes("training"), yes("inputs"))], held).allowed


def test_a_trainings_base_and_budget_keep_the_shows_rules_but_finals_clearances_are_not_asked() -> None:
    held = {"dune": rules(LICENCES + f"\n{INPUTS}{APPROVAL}[budget]\nmachine_hours = 1")}
    versions = [version("v001", yes("training"))]
    bad = replace(OURS, licence="GPL-3.0-only")
    assert broken(training(versions, held, bad, use="final")) == ["models.licences", "budget.machine_hours"]
    usage = Usage(machine_hours=Spend(spent=0, committed=0, asked=1))
    assert decide_training(subject(OURS, use="final"), versions, held, usage, now=NOW).allowed


# Studio and show


def test_the_shows_word_decides_and_the_refusal_names_its_file() -> None:
    studio = parse_rules(b'[models]\nlicences = ["MIT", "LicenseRef-acme"]\nstates = ["approved"]', STUDIO.name)
    show = parse_rules(b'[models]\nlicences = ["MIT"]', SHOW.name)
    held = merged([(STUDIO, studio), (SHOW, show)])
    assert decide(subject(OURS), merged([(STUDIO, studio)]), now=NOW).allowed
    where, _, hint = fault_words(decide(subject(OURS), held, now=NOW))
    assert where == "rule models.licences (acme/dune.toml)"
    assert "whoever keeps acme/dune.toml" in hint
    stale = decide(subject(replace(OURS, licence="MIT", state="retired")), held, now=NOW)
    assert [fault.where for fault in stale.refusals()] == ["rule models.states (acme.toml)"]


models = st.builds(
    UsedModel,
    name=st.just("hero"),
    licence=st.sampled_from(["", "MIT", "GPL-3.0-only", "LicenseRef-acme"]),
    state=st.sampled_from(["", "candidate", "approved", "retired"]),
    registered=st.booleans(),
    shipped=st.booleans(),
)
subjects = st.builds(
    subject, models, use=st.sampled_from([None, "temp", "final"]), user=st.sampled_from(["ann", "legal"])
)
given_yeses = st.lists(
    st.builds(
        yes,
        st.sampled_from(["inputs", "training", "final"]),
        recorded_by=st.sampled_from(["ann", "legal"]),
        withdrawn_at=st.sampled_from([None, NOW - 1]),
    ),
    max_size=3,
)
spends = st.builds(Spend, spent=st.sampled_from([None, 0, 500]), committed=st.just(1), asked=st.sampled_from([None, 9]))
usages = st.builds(Usage, money=spends, machine_hours=spends, gpu_hours=spends)
ABOUT = {
    "models.licences": {"models.licences", "models.temp_licences", "models.unregistered"},
    "clearance.temp": {"clearance.temp", "clearance.by.inputs", "clearance.by.training", "clearance.by.final"},
    "clearance.final": {"clearance.final", "clearance.by.inputs", "clearance.by.training", "clearance.by.final"},
    "approval.final": {"approval.final", "clearance.by.final"},
}
"""Rules that decide together with another."""


@given(studio=rule_sets, show=rule_sets, asked=subjects, said=given_yeses, usage=usages)
def test_a_refusal_is_lifted_only_by_a_word_of_the_show_on_that_very_rule(
    studio: RuleSet, show: RuleSet, asked: Subject, said: list[Clearance], usage: Usage
) -> None:
    try:
        ours, both = merged([(STUDIO, studio)]), merged([(STUDIO, studio), (SHOW, show)])
    except RuleError:
        return
    words = set(dict(spoken(show)))
    before, after = decide(asked, ours, said, usage, now=NOW), decide(asked, both, said, usage, now=NOW)
    still = set(broken(after))
    for rule in broken(before):
        assert rule in still or words & {*ABOUT.get(rule, {rule}), "use.default"}
    if not words:
        assert [replace(check, file="") for check in after.checks] == [
            replace(check, file="") for check in before.checks
        ]


@given(held=rule_sets, asked=subjects, said=given_yeses, usage=usages)
def test_every_decision_is_whole_plain_and_says_what_it_decided(
    held: RuleSet, asked: Subject, said: list[Clearance], usage: Usage
) -> None:
    try:
        both = merged([(STUDIO, held)])
    except RuleError:
        return
    decision = decide(asked, both, said, usage, now=NOW)
    kept = json.loads(json.dumps(to_plain(decision.as_json()), allow_nan=False))
    assert kept["allowed"] == decision.allowed == (len(decision.refusals()) == 0)
    assert all(fault.message and fault.where.startswith("rule ") for fault in decision.refusals())
    assert all(check.hint for check in decision.checks if not check.kept and "isn't known" not in check.words)
    assert all(check.words and check.file == STUDIO.name for check in decision.checks)
    assert decide(asked, NO_RULES, said, usage, now=NOW).words == "allowed: no rules"


# The record


def test_months_later_the_record_alone_says_who_cleared_it_on_what_and_when() -> None:
    held = rules(INPUTS + 'by = { inputs = ["legal"] }\n' + LICENCES)
    decision = decide(subject(OURS, use="final"), held, [yes(sequence="sq010", note="by mail")], now=NOW)
    record = json.loads(json.dumps(decision.as_json()))
    assert (record["schema"], record["allowed"], record["use"]) == ("platewright.decision/1", True, "final")
    assert record["decided_at"] == "2026-05-20T15:30:00+00:00"
    assert record["rule_files"] == [{"name": "acme.toml", "sha256": "a" * 64}]
    assert record["subject"]["models"][0] == {
        "name": "hero@v003", "sha256": "c" * 64, "licence": "LicenseRef-acme", "state": "approved",
        "registered": True, "shipped": False,
    }  # fmt: skip
    (check,) = (check for check in record["checks"] if check["rule"] == "clearance.final")
    assert check["asks"] == {"kind": "inputs", "by": ["legal"], "by_file": "acme.toml"}
    assert check["clearances"] == [
        {
            "kind": "inputs", "show": "dune", "sequence": "sq010", "shot": "", "by": "A. Stone", "recorded_by": "legal",
            "reference": "contract 12", "note": "by mail", "given_at": "2026-05-19T15:30:00+00:00",
            "withdrawn_at": None, "withdrawn_by": "", "id": 7,
        }
    ]  # fmt: skip
    assert check["words"] == (
        "inputs cleared for a final of dune/sq010/sh010 by A. Stone on 2026-05-19 (recorded by legal, contract 12)"
    )


def test_a_decision_says_in_a_few_words_what_it_is() -> None:
    assert decide(subject(), NO_RULES, now=NOW).words == "allowed: no rules"
    assert decide(subject(), NO_RULES, now=NOW).as_json()["checks"] == []
    assert decide(subject(), rules(""), now=NOW).words == "allowed: no rule asks for anything"
    assert decide(subject(use="final"), rules(INPUTS), [yes()], now=NOW).words == "allowed: every rule is kept"
    refused = decide(subject(use="final"), rules(INPUTS + APPROVAL), now=NOW)
    assert refused.words == "refused by clearance.final (acme.toml), approval.final (acme.toml)"


def test_a_single_check_is_kept_as_plain_values() -> None:
    check: Check = may_promote("bo", rules('[approval]\npromote = ["bo"]'))
    assert json.loads(json.dumps(check_json(check))) == {
        "rule": "approval.promote", "file": "acme.toml", "outcome": "kept", "words": "bo may promote", "about": "bo",
        "asks": ["bo"], "hint": "", "clearances": [],
    }  # fmt: skip

"""The text of rules: read whole or refused with every fault, and merged so that the show's word wins key by key."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RuleError, SubmissionRefused
from pipeline.rules import NO_RULES, RuleFile, RuleSet, merged, parse_rules, spoken

STUDIO, SHOW = RuleFile("acme.toml", "a" * 64), RuleFile("acme/dune.toml", "b" * 64)

names = st.lists(st.sampled_from(["ann", "legal", "vfx supervisor"]), max_size=2)
licences = st.lists(st.sampled_from(["MIT", "Apache-2.0", "GPL-3.0-only", "LicenseRef-acme"]), max_size=3)
kinds = st.lists(st.sampled_from(["inputs", "training", "final"]), max_size=2)
amounts = st.floats(0, 1000)
tables: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "models": {
        "licences": licences,
        "temp_licences": licences,
        "states": st.lists(st.sampled_from(["candidate", "approved", "retired"]), max_size=2),
        "unregistered": st.sampled_from(["never", "temp", "always"]),
    },
    "use": {"default": st.sampled_from(["temp", "final"])},
    "clearance": {
        **dict.fromkeys(("final", "temp", "training"), kinds),
        "by": st.fixed_dictionaries({}, optional=dict.fromkeys(("inputs", "training", "final"), names)),
    },
    "approval": {"final": names, "promote": names},
    "budget": {
        **dict.fromkeys(("money", "machine_hours", "gpu_hours"), amounts),
        "period": st.sampled_from(["total", "month", "week", "day"]),
    },
}
rule_sets = st.fixed_dictionaries(
    {}, optional={name: st.fixed_dictionaries({}, optional=keys) for name, keys in tables.items()}
).map(RuleSet.model_validate)
"""Any file's words."""


def faults_of(text: str | bytes) -> list[tuple[str, str, str]]:
    with pytest.raises(RuleError) as error:
        parse_rules(text.encode() if isinstance(text, str) else text, "acme.toml")
    return [(fault.where, fault.message, fault.hint) for fault in error.value.faults]


def test_an_empty_file_names_no_rule() -> None:
    assert list(spoken(parse_rules(b"", "acme.toml"))) == []
    assert list(spoken(parse_rules(b"[models]\n[budget]\n", "acme.toml"))) == []


def test_every_rule_is_read_as_it_is_written() -> None:
    text = """
    clearance.by = { inputs = ["legal"], final = [] }
    [models]
    licences = ["Apache-2.0", "LicenseRef-acme.look+1"]
    temp_licences = []
    states = ["approved"]
    unregistered = "temp"
    [use]
    default = "final"
    [approval]
    final = ["vfx supervisor"]
    promote = []
    [budget]
    money = 500
    machine_hours = 0.5
    gpu_hours = 0
    period = "week"
    """
    assert dict(spoken(parse_rules(b"\xef\xbb\xbf" + text.encode(), "acme.toml"))) == {
        "models.licences": ("Apache-2.0", "LicenseRef-acme.look+1"),
        "models.temp_licences": (),
        "models.states": ("approved",),
        "models.unregistered": "temp",
        "use.default": "final",
        "clearance.by.inputs": ("legal",),
        "clearance.by.final": (),
        "approval.final": ("vfx supervisor",),
        "approval.promote": (),
        "budget.money": 500.0,
        "budget.machine_hours": 0.5,
        "budget.gpu_hours": 0.0,
        "budget.period": "week",
    }


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ('[models]\nlicenses = ["MIT"]', "models.licenses", "is no rule", "did you mean licences?"),
        ('[model]\nlicences = ["MIT"]', "model", "is no rule", "did you mean models?"),
        ("[Budget]\nmoney = 3", "Budget", "is no rule", "did you mean budget?"),
        ('[clearance.by]\ninput = ["ann"]', "clearance.by.input", "is no rule", "did you mean inputs?"),
        ('licences = ["MIT"]', "licences", "is no rule", "it belongs into [models]"),
        ("[use]\nwholly = 1", "use.wholly", "is no rule", "known: default"),
        ('models = "MIT"', "models", "isn't a table", "[table]"),
        ("[[models]]", "models", "isn't a table", "[table]"),
        ('[models]\nlicences = "MIT"', "models.licences", "isn't a list", "even of one"),
        ("[models]\nlicences = [3]", "models.licences[1]", "is 3, which isn't a text", "in quotes"),
        ('[models]\nlicences = ["MIT", "Apache 2.0"]', "models.licences[2]", "isn't a licence's", "Apache-2.0"),
        ('[models]\ntemp_licences = [""]', "models.temp_licences[1]", "isn't a licence's", "SPDX"),
        ('[models]\nstates = ["aproved"]', "models.states[1]", "is 'aproved', which isn't known", "mean approved?"),
        ('[models]\nunregistered = "yes"', "models.unregistered", "isn't known", "known: never, temp, always"),
        ("[models]\nunregistered = true", "models.unregistered", "is True, which isn't known", "known: never"),
        ('[use]\ndefault = "finals"', "use.default", "isn't known", "did you mean final?"),
        ("[use]\ndefault = 2026-01-01", "use.default", "isn't known", "known: temp, final"),
        ('[clearance]\nfinal = ["input"]', "clearance.final[1]", "isn't known", "did you mean inputs?"),
        ('[approval]\nfinal = [" ann"]', "approval.final[1]", "can't be a name", "without blanks"),
        (f'[approval]\nfinal = ["{"a" * 129}"]', "approval.final[1]", "can't be a name", "128 characters"),
        ('[budget]\nmoney = "500"', "budget.money", "isn't a number", "without quotes"),
        ("[budget]\nmoney = true", "budget.money", "isn't a number", "without quotes"),
        ("[budget]\nmoney = -1", "budget.money", "is -1, which is below 0", "no bound"),
        ("[budget]\ngpu_hours = nan", "budget.gpu_hours", "isn't a finite number", "no bound"),
        ("[budget]\ngpu_hours = inf", "budget.gpu_hours", "isn't a finite number", "no bound"),
        ('[budget]\nperiod = "monthly"', "budget.period", "is 'monthly', which isn't known", "did you mean month?"),
        ('[budget]\nperiod = "year"', "budget.period", "isn't known", "known: total, month, week, day"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_key_and_what_to_write(text: str, where: str, message: str, hint: str) -> None:
    ((found, said, advice),) = faults_of(text)
    assert found == f"acme.toml › {where}"
    assert message in said
    assert hint in advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models", "at end of document"),
        ("\n\nmoney == 3", "line 3"),
        ("[models]\n[models]", "line 2"),
        ("[models]\nstates = []\nstates = []\n", "line 3"),
        (b"[models]\n# \xff", "UTF-8 (at line 2)"),
        (b"\x00", "TOML"),
        ("a = " + "[" * 5000, "nested"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(text: str | bytes, words: str) -> None:
    ((where, message, _),) = faults_of(text)
    assert where == "acme.toml"
    assert words in message


def test_every_mistake_of_a_file_is_told_at_once() -> None:
    found = faults_of('[model]\n[models]\nstates = ["old"]\n[budget]\nmoney = -1\nperiod = "no"')
    assert {where for where, _, _ in found} == {
        f"acme.toml › {key}" for key in ("model", "models.states[1]", "budget.money", "budget.period")
    }


def test_a_long_value_is_cut_in_the_refusal() -> None:
    ((_, message, _),) = faults_of(f'[budget]\nperiod = "{"x" * 10_000}"')
    assert len(message) < 100


def test_a_broken_file_is_a_refused_submission_and_survives_a_pipe() -> None:
    with pytest.raises(SubmissionRefused) as error:
        parse_rules(b"[model]", "acme.toml")
    again = pickle.loads(pickle.dumps(error.value))
    assert type(again) is RuleError
    assert again.faults == error.value.faults


def test_licences_of_temps_alone_are_a_mistake_since_they_would_bound_nothing() -> None:
    with pytest.raises(RuleError, match="every licence would be allowed"):
        merged([(STUDIO, parse_rules(b'[models]\ntemp_licences = ["MIT"]', "acme.toml"))])
    show = parse_rules(b'[models]\ntemp_licences = ["MIT"]', "acme/dune.toml")
    rules = merged([(STUDIO, parse_rules(b'[models]\nlicences = ["Zlib"]', "acme.toml")), (SHOW, show)])
    assert rules.source("models.licences") == "acme.toml"
    assert rules.source("models.temp_licences") == "acme/dune.toml"


@given(studio=rule_sets, show=rule_sets)
def test_the_shows_word_wins_key_by_key_and_its_silence_leaves_the_studios(studio: RuleSet, show: RuleSet) -> None:
    try:
        rules = merged([(STUDIO, studio), (SHOW, show)])
    except RuleError:
        both = {**dict(spoken(studio)), **dict(spoken(show))}
        assert "models.temp_licences" in both and "models.licences" not in both
        return
    ours, theirs = dict(spoken(studio)), dict(spoken(show))
    assert set(rules.values) == set(ours) | set(theirs)
    for key, value in rules.values.items():
        assert value == (theirs[key] if key in theirs else ours[key])
        assert rules.source(key) == (SHOW.name if key in theirs else STUDIO.name)
    assert rules.files == (STUDIO, SHOW)
    assert rules.has_budget == any(f"budget.{name}" in rules.values for name in ("money", "machine_hours", "gpu_hours"))
    assert rules.period == rules.values.get("budget.period", "total")


def test_without_files_nothing_is_said() -> None:
    assert merged([]) == NO_RULES
    assert NO_RULES.said("models.licences") is None
    assert (NO_RULES.source("models.licences"), NO_RULES.has_budget, NO_RULES.period) == ("", False, "total")


def test_a_period_alone_is_no_budget() -> None:
    assert not merged([(STUDIO, parse_rules(b'[budget]\nperiod = "day"', "acme.toml"))]).has_budget
    assert merged([(STUDIO, parse_rules(b"[budget]\nmoney = 0", "acme.toml"))]).has_budget

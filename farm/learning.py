"""From a request for a training, or for a judgement, to a job: versions chosen, held-out shots set aside, consent and rules
asked, files looked at. Every refusal comes before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.cards import CardView, find_card, get_card, in_production
from farm.clearances import list_clearances
from farm.dispatcher import Dispatcher
from farm.folders import models_folder
from farm.gate import usage_of, with_bases
from farm.heldout import Address, held_out
from farm.inspector import Inspector
from farm.lessons import (
    address_of,
    asked_versions,
    base_of,
    check_unlearned,
    drawn,
    judges,
    parse_address,
    specs_of,
    text_of,
)
from farm.records import VersionView, WorkFacts
from farm.rules import read_rules
from farm.settings import FarmSettings
from farm.states import ModelState
from farm.store import Transaction
from farm.submitting import publish_root_of
from farm.training_estimates import training_estimate
from farm.training_files import TrainingFiles
from farm.turn import Turn
from pipeline.errors import Fault, PipelineError, SubmissionRefused, fault_of
from pipeline.jobs.plan import Step
from pipeline.jobs.spec import JobSpec
from pipeline.jobs.training import (
    ScoringRequest,
    TrainingRequest,
    TrainingSpec,
    plan_training,
)
from pipeline.parameters import validate_keyed
from pipeline.policy import Decision, Subject, TrainingVersion, UsedModel, decide_training
from pipeline.shot import check_name
from pipeline.tasks.definition import TaskDefinition, TrainingDefinition
from pipeline.tasks.registry import task, tasks


@dataclass(frozen=True, slots=True)
class PreparedTraining:
    """A training that may become a job: nothing was written for it yet. `set_aside` are shots that are held out from now on."""

    spec: TrainingSpec
    steps: tuple[Step, ...]
    work: WorkFacts
    set_aside: tuple[Address, ...] = ()
    estimate: Mapping[str, Any] | None = None
    """What it will cost, by history; None while there is none."""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the store says of a request."""

    lessons: tuple[VersionView, ...]
    judged_by: tuple[VersionView, ...]
    set_aside: tuple[Address, ...]
    base: CardView | None
    present: CardView | None
    adapter_base: CardView | None
    decision: dict[str, Any]
    estimate: Mapping[str, Any] | None
    made_by: Mapping[int, JobSpec]
    """Version → the job that made it."""


def prepare_training(
    request: TrainingRequest,
    *,
    studio: str,
    user: str,
    settings: FarmSettings,
    dispatcher: Dispatcher,
    inspector: Inspector,
) -> PreparedTraining:
    """Check a request for a training and plan it. `user` is who asks, by their token.

    Raises: SubmissionRefused with every fault: nothing to learn from or to judge by, a version that isn't approved, a held-out
    shot among the lessons, no consent, a base that can't be one, frames that are gone, a rule that it breaks.
    """
    definition, training = _training(request.task)
    parameters, faults = _parameters(training, request.parameters)
    faults += _name_faults(request)
    chosen = dispatcher.read(
        lambda turn: _choose(turn, request, studio, user, definition, training, parameters, settings, faults)
    )
    files = TrainingFiles(inspector, definition, training, faults)
    lessons = files.lessons(chosen.lessons, chosen.made_by, chosen.decision)
    judged_by = files.lessons(chosen.judged_by, chosen.made_by, {})
    base = files.base(chosen.base)
    present = files.judged(chosen.present, base, chosen.adapter_base)
    if faults:
        raise SubmissionRefused(list(dict.fromkeys(faults)))
    spec = TrainingSpec(
        task=definition.name,
        studio=studio,
        show=request.show or settings.show,
        name=request.name,
        base=base,
        base_card=None if chosen.base is None else chosen.base.id,
        lessons=lessons,
        held_out=judged_by,
        present=present,
        parameters=parameters,
        seed=request.seed,
        licence=request.licence or f"LicenseRef-{studio}",
        note=request.note,
        priority=request.priority,
        pool=request.pool,
        publish_root=str(publish_root_of(None, studio, settings)),
        models_folder=str(models_folder(publish_root_of(None, studio, settings), studio=studio)),
        adapter=training.parameter,
        user=user,
        policy=chosen.decision,
    )
    return PreparedTraining(
        spec, plan_training(spec), _work(training, spec, chosen.estimate), chosen.set_aside, chosen.estimate
    )


def prepare_scoring(
    card: CardView,
    request: ScoringRequest,
    *,
    user: str,
    settings: FarmSettings,
    dispatcher: Dispatcher,
    inspector: Inspector,
) -> PreparedTraining:
    """Check a request to judge a model and plan it. Raises: SubmissionRefused."""
    definition, training = _training(card.task)
    parameters, faults = _parameters(training, request.parameters)

    def look(turn: Turn) -> tuple[Any, ...]:
        shots = held_out(turn.tx, card.studio, card.task)
        found = judges(turn.tx, card.studio, training, shots, faults)
        if not shots:
            hint = "set some aside with --hold-out when you train, and approve a version of each"
            faults.append(Fault("hold_out", f"no shot is held out for {definition.label}", hint))
        check_unlearned(turn.tx, card, shots, "model", faults)
        present = in_production(turn.tx, card.studio, card.task)
        below = None if card.base_model is None else get_card(turn.tx, card.studio, card.base_model)
        own = present if present is not None and present.id != card.id else None
        said = _estimate(turn.tx, card.studio, definition, training, parameters, settings, 0, len(found))
        decision = _decide(
            turn,
            card.studio,
            settings.show,
            user,
            (),
            tuple(with_bases(turn.tx, card.studio, card)),
            definition,
            settings,
            said,
        )
        faults.extend(decision.refusals())
        return (
            found,
            decision.as_json(),
            specs_of(turn.tx, card.studio, found),
            own,
            below,
            None if own is None else base_of(turn.tx, own),
            said,
        )

    judged_by, decision, made_by, there, below, adapter_base, estimate = dispatcher.read(look)
    files = TrainingFiles(inspector, definition, training, faults)
    base = files.base(below)
    candidate = files.judged(card, base, below)
    present = files.judged(there, base, adapter_base)
    lessons = files.lessons(judged_by, made_by, {})
    if faults:
        raise SubmissionRefused(list(dict.fromkeys(faults)))
    root = publish_root_of(None, card.studio, settings)
    spec = TrainingSpec(
        task=card.task,
        studio=card.studio,
        show=settings.show,
        name=card.name,
        base=base,
        base_card=card.base_model,
        held_out=lessons,
        candidate=candidate,
        present=present,
        parameters=parameters,
        licence=card.licence,
        priority=request.priority,
        pool=request.pool,
        publish_root=str(root),
        models_folder=str(models_folder(root, studio=card.studio)),
        adapter=training.parameter,
        user=user,
        policy=decision,
    )
    return PreparedTraining(spec, plan_training(spec), _work(training, spec, estimate), estimate=estimate)


def _training(name: str) -> tuple[TaskDefinition, TrainingDefinition]:
    try:
        definition = task(name)
    except PipelineError as error:
        raise SubmissionRefused([fault_of(error, "task")]) from error
    if definition.training is None:
        fault = Fault("task", f"{definition.label} has nothing that learns", "its models are given by path, or added")
        raise SubmissionRefused([fault])
    return definition, definition.training


def _parameters(training: TrainingDefinition, given: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    parameters, curves, faults = validate_keyed(training.parameters, given)
    faults = [*faults, *(Fault(f"parameter {n}", "is given over frames", "give one number") for n in curves)]
    return ({} if parameters is None else parameters.model_dump(mode="json")), faults


def _name_faults(request: TrainingRequest) -> list[Fault]:
    faults: list[Fault] = []
    for where, what, name in (("name", "model", request.name), ("show", "show", request.show)):
        try:
            check_name(name or "any", what)
        except PipelineError as error:
            faults.append(fault_of(error, where))
    if request.name in {known.name for known in tasks()}:
        message = f"a model can't be called {request.name!r}: that is a task"
        faults.append(Fault("name", message, "give it a name of its own"))
    return faults


def _work(training: TrainingDefinition, spec: TrainingSpec, estimate: Mapping[str, Any] | None) -> WorkFacts:
    said = "" if estimate is None else json.dumps(estimate)
    return WorkFacts(product="", memory_mb=training.memory_mb, model=f"{spec.task}:{spec.kind}", estimate=said)


# What the store says


def _choose(
    turn: Turn,
    request: TrainingRequest,
    studio: str,
    user: str,
    definition: TaskDefinition,
    training: TrainingDefinition,
    parameters: Mapping[str, Any],
    settings: FarmSettings,
    faults: list[Fault],
) -> _Chosen:
    tx = turn.tx
    found = asked_versions(tx, request, studio, training, faults)
    asked = {parse_address(text, faults) for text in request.hold_out} - {None}
    aside = held_out(tx, studio, request.task) | {one for one in asked if one is not None}
    kept = aside
    if not aside and found:
        aside = drawn({address_of(version) for version in found})
    lessons = tuple(version for version in found if address_of(version) not in aside)
    # What is drawn now was nobody's word: it is set aside, and the reply says so.
    for version in found if request.versions else ():
        if address_of(version) in kept:
            message = f"{version.name} is of {text_of(address_of(version))}, which is held out: models are judged by it"
            faults.append(Fault("versions", message, "leave it out, or learn from other shots"))
    judged_by = judges(tx, studio, training, aside, faults)
    if not lessons:
        products = " or ".join(training.products)
        message = f"there is no approved version of {products} to learn from"
        faults.append(Fault("versions", message, "approve some first: plates approve VERSION"))
    if not judged_by:
        message = "no shot is left to judge by"
        faults.append(Fault("hold_out", message, "approve versions of two shots or more"))
    base = _base_card(tx, request, studio, definition, training, faults)
    if base is not None:
        check_unlearned(tx, base, aside, "base", faults)
    present = in_production(tx, studio, request.task)
    show = request.show or settings.show
    models = _start_of(tx, studio, base, definition)
    estimate = _estimate(tx, studio, definition, training, parameters, settings, len(lessons), len(judged_by))
    decision = _decide(turn, studio, show, user, lessons, models, definition, settings, estimate)
    faults += decision.refusals()
    return _Chosen(
        lessons=lessons,
        judged_by=judged_by,
        set_aside=tuple(sorted(aside)),
        base=base,
        present=present,
        adapter_base=None if present is None else base_of(tx, present),
        decision=decision.as_json(),
        estimate=estimate,
        made_by=specs_of(tx, studio, (*lessons, *judged_by)),
    )


def _estimate(
    tx: Transaction,
    studio: str,
    definition: TaskDefinition,
    training: TrainingDefinition,
    parameters: Mapping[str, Any],
    settings: FarmSettings,
    lessons: int,
    shots: int,
) -> Mapping[str, Any] | None:
    """What it will cost, as JSON; None without history, and where the parameters can't be used."""
    if not parameters or not shots:
        return None
    found = training_estimate(
        tx, studio, definition.name, training, settings, parameters=parameters, lessons=lessons, held_out=shots
    )
    return None if found is None else found.as_json()


def _base_card(
    tx: Transaction,
    request: TrainingRequest,
    studio: str,
    definition: TaskDefinition,
    training: TrainingDefinition,
    faults: list[Fault],
) -> CardView | None:
    if not request.base:
        if training.needs_base:
            hint = f"add one first: plates models add {definition.name} NAME PATH --licence …; then --base NAME"
            faults.append(Fault("base", f"a model of {definition.label} learns on a base, and none is named", hint))
        return None
    try:
        card = find_card(tx, studio, request.base, task=definition.name)
    except PipelineError as error:
        faults.append(fault_of(error, "base"))
        return None
    if card.state is ModelState.RETIRED:
        faults.append(Fault("base", f"{card.label} is retired", "start from another model"))
    if card.family not in training.base_families:
        wanted = " or ".join(training.base_families) or "the task's own weights alone"
        faults.append(Fault("base", f"{card.label} is of the family {card.family}", f"a training starts from {wanted}"))
    return card


def _start_of(tx: Transaction, studio: str, base: CardView | None, definition: TaskDefinition) -> tuple[UsedModel, ...]:
    """The weights that a training begins from, as rules see them."""
    if base is not None:
        return tuple(with_bases(tx, studio, base))
    if definition.default_licence:
        return (UsedModel(name=definition.default_model, licence=definition.default_licence, shipped=True),)
    return ()


def _decide(
    turn: Turn,
    studio: str,
    show: str,
    user: str,
    lessons: Sequence[VersionView],
    models: tuple[UsedModel, ...],
    definition: TaskDefinition,
    settings: FarmSettings,
    estimate: Mapping[str, Any] | None,
) -> Decision:
    """What rules and clearances say. Raises: RuleError (a rule file)."""
    shows = {show, *(version.show for version in lessons)}
    rules = {name: read_rules(settings.rules, studio, name) for name in shows}
    clearances = list_clearances(turn.tx, studio, shows=shows)
    subject = Subject(studio=studio, show=show, task=definition.name, use=None, user=user, models=models)
    versions = [
        TrainingVersion(
            name=version.name,
            show=version.show,
            sequence=version.sequence,
            shot=version.shot,
            clearances=tuple(c for c in clearances if c.show == version.show),
        )
        for version in lessons
    ]
    usage = usage_of(turn, rules[show], settings, studio=studio, show=show, estimate=estimate)
    return decide_training(subject, versions, rules, usage, now=turn.now)

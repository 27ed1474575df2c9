"""What a submission is held against before it is dispatched: the studio's models, its rules, its clearances, its budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from farm.cards import CardView, cards_of_digests, find_card, get_card, in_production, paths_of_cards
from farm.clearances import list_clearances
from farm.dispatcher import Dispatcher
from farm.rules import read_rules
from farm.settings import FarmSettings
from farm.states import ModelState
from farm.store import Transaction
from farm.turn import Turn
from farm.usage import UsageBook, asking, spent
from pipeline.errors import Fault, NotFoundError, PipelineError, SubmissionRefused, fault_of
from pipeline.jobs.spec import JobRequest, JobSpec, TakeRequest, TakeSpec
from pipeline.models.facts import LORA
from pipeline.policy import Decision, Spend, Subject, Usage, UsedModel, decide, period_start
from pipeline.rules import Rules, Use
from pipeline.tasks.definition import TaskDefinition


def usage_of(
    turn: Turn,
    rules: Rules,
    settings: FarmSettings,
    *,
    studio: str,
    show: str,
    estimate: Mapping[str, Any] | None,
    book: UsageBook | None = None,
) -> Usage | None:
    """What a show has spent in its budget's period, and what this job would add; None where no rule sets a budget."""
    if not rules.has_budget:
        return None
    since = period_start(rules.period, turn.now)
    found = asking(
        spent(turn.tx, studio, show, since=since, now=turn.now, currency=settings.currency, book=book),
        estimate,
    )
    priced = settings.machine_hour > 0 or settings.gpu_hour > 0 or (found.money.spent or 0) > 0
    # Without a price money isn't 0 but unknown: else a budget in money would never bite.
    return found if priced else replace(found, money=Spend())


class Chosen:
    """The studio's models that a request names, and the request with their paths in place of their names."""

    def __init__(self, request: JobRequest, cards: Mapping[str, CardView], trusted: Mapping[str, str]) -> None:
        self.request = request
        self.cards = cards
        """Model as the request's takes name it now → its card."""
        self.trusted = trusted
        """Paths that the registry vouches for, wherever they lie → the hash of what must lie there."""

    def payload(self) -> dict[str, Any]:
        """For the child that looks at the files."""
        return {
            "models": {
                name: {"label": c.label, "path": c.path, "sha256": c.sha256, "licence": c.licence}
                for name, c in self.cards.items()
            },
            "trusted": dict(self.trusted),
        }


def choose_models(
    dispatcher: Dispatcher, studio: str, definition: TaskDefinition, request: JobRequest, *, retired: bool = False
) -> Chosen:
    """Look up what the takes name: a card by any of its names; where nothing is named, the production model that stands in
    for the task's own. A LoRA's card stands for its base with the LoRA beside it.

    `retired`: whether retired ones pass, as for a replay. Raises: SubmissionRefused (no such model here, a retired one).
    """
    try:
        takes = request.asked_takes()
    except SubmissionRefused:
        return Chosen(request, {}, {})  # told again with all other faults
    return dispatcher.read(lambda turn: _chosen(turn.tx, studio, definition, request, takes, retired))


def _chosen(
    tx: Transaction,
    studio: str,
    definition: TaskDefinition,
    request: JobRequest,
    asked: Sequence[TakeRequest],
    retired: bool,
) -> Chosen:
    faults: dict[Fault, None] = {}
    cards: dict[str, CardView] = {}
    trusted: dict[str, str] = {}
    takes: list[TakeRequest] = []
    for take in asked:
        try:
            card = _card_of(tx, studio, definition, take.model or "", retired=retired)
        except PipelineError as error:
            faults[_of_model(error, definition)] = None
            continue
        if card is not None and card.family == LORA:
            base = _base_of(tx, studio, card, faults)
            beside = _parameter_of(definition, card, take, faults)
            if base is None or not beside:
                continue
            trusted[card.path] = card.sha256
            take = take.model_copy(update={"parameters": {**take.parameters, beside: card.path}})
            card = base
        if card is not None:
            cards[card.label] = card
            take = take.model_copy(update={"model": card.label})
        takes.append(take)
    if faults:
        raise SubmissionRefused(list(faults))
    given = [text for take in asked for text in take.parameters.values() if isinstance(text, str)]
    trusted = {**paths_of_cards(tx, studio, given), **trusted}
    if not cards:
        return Chosen(request, {}, trusted)
    changed = request.model_copy(update={"takes": tuple(takes), "wedge": {}, "parameters": {}})
    return Chosen(changed, cards, trusted)


def _of_model(error: PipelineError, definition: TaskDefinition) -> Fault:
    """The refusal of a name, with the one that always works."""
    fault = fault_of(error, "model")
    if not definition.default_model:
        return fault
    return replace(fault, hint=f"{fault.hint}; the task's own is {definition.default_model}")


def _card_of(tx: Transaction, studio: str, definition: TaskDefinition, text: str, *, retired: bool) -> CardView | None:
    """None for a path, and for the task's own weights. Raises: NotFoundError, StateError (retired)."""
    if not text:
        card = in_production(tx, studio, definition.name) if definition.stand_in else None
        return card if card is not None and card.family == definition.stand_in else None
    if text == definition.default_model or "/" in text or "\\" in text or text.endswith((".safetensors", ".onnx")):
        return None
    card = find_card(tx, studio, text, task=definition.name)
    if card.state is ModelState.RETIRED and not retired:
        raise NotFoundError(f"{card.label} is retired", "name another model; `plates models list` shows them")
    return card


def _base_of(tx: Transaction, studio: str, card: CardView, faults: dict[Fault, None]) -> CardView | None:
    if card.base_model is None:
        faults[Fault("model", f"the base of {card.label} has no card", "add it: plates models add")] = None
        return None
    return get_card(tx, studio, card.base_model)


def _parameter_of(definition: TaskDefinition, card: CardView, take: TakeRequest, faults: dict[Fault, None]) -> str:
    """The parameter that takes a LoRA; empty with a fault where there is none, or it is given already."""
    name = "" if definition.training is None else definition.training.parameter
    if not name:
        faults[Fault("model", f"{card.label} is a LoRA, and {definition.label} takes none", "name another model")] = (
            None
        )
    elif take.parameters.get(name) not in (None, "", card.path):
        message = f"{card.label} goes where the parameter {name} is given already"
        faults[Fault("model", message, f"leave {name} out, or name the base of {card.label} as the model")] = None
        return ""
    return name


def used_models(
    tx: Transaction, studio: str, definition: TaskDefinition, takes: Iterable[TakeSpec], *, retired: bool = False
) -> tuple[UsedModel, ...]:
    """All weights that the takes load, as rules see them: each with its licence, and what they were made from.

    `retired`: whether retired ones pass, as for a replay. Raises: SubmissionRefused (another studio's, a retired one).
    """
    named = {digest: name for take in takes for digest, name in _digests(take)}
    own, elsewhere = cards_of_digests(tx, studio, [digest for digest in named if digest])
    faults: list[Fault] = []
    found: dict[UsedModel, None] = {}
    for digest, name in named.items():
        if not digest:
            if definition.default_licence:
                shipped = UsedModel(name=definition.default_model, licence=definition.default_licence, shipped=True)
                found[shipped] = None
        elif digest in elsewhere:
            # Not a word of whose they are: to this studio they are weights that nobody answers for.
            hint = f"add them: plates models add {definition.name} NAME PATH --licence …"
            faults.append(Fault("model", f"the weights of {name} have no card here", hint))
        elif digest not in own:
            found[UsedModel(name=name, sha256=digest)] = None
        else:
            card = own[digest]
            if card.state is ModelState.RETIRED and not retired:
                faults.append(Fault("model", f"{card.label} is retired", "name another model"))
            found.update(dict.fromkeys(with_bases(tx, studio, card)))
    if faults:
        raise SubmissionRefused(faults)
    return tuple(found)


def _digests(take: TakeSpec) -> Iterable[tuple[str, str]]:
    """(hash, name) of each of a take's weights; no hash for the task's own."""
    yield take.model.sha256, take.model.name
    yield from ((digest, take.inputs[name].path) for name, digest in take.weights.items())


def with_bases(tx: Transaction, studio: str, card: CardView) -> Iterable[UsedModel]:
    """A card and what it was made from: a licence of either may forbid a use."""
    yield UsedModel(name=card.label, sha256=card.sha256, licence=card.licence, state=str(card.state), registered=True)
    base = card.base_model
    while base is not None:
        below = get_card(tx, studio, base)
        name = f"{below.label}, the base of {card.label}"
        yield UsedModel(name=name, sha256=below.sha256, licence=below.licence, state=str(card.state), registered=True)
        base = below.base_model


def decide_job(
    turn: Turn,
    spec: JobSpec,
    definition: TaskDefinition,
    settings: FarmSettings,
    *,
    use: Use | None,
    user: str,
    estimate: Mapping[str, Any] | None,
    book: UsageBook | None = None,
) -> Decision:
    """What the show's rules say of a job. Raises: SubmissionRefused (weights of another studio), RuleError (a rule file)."""
    rules = read_rules(settings.rules, spec.studio, spec.show)
    again = spec.replays is not None
    subject = Subject(
        studio=spec.studio,
        show=spec.show,
        sequence=spec.sequence,
        shot=spec.shot,
        task=spec.task,
        # What a replay makes is looked at and thrown away, whatever its version was for.
        use="temp" if again else use,
        user=user,
        models=used_models(turn.tx, spec.studio, definition, spec.takes, retired=again),
    )
    clearances = list_clearances(turn.tx, spec.studio, shows=[spec.show])
    usage = usage_of(turn, rules, settings, studio=spec.studio, show=spec.show, estimate=estimate, book=book)
    return decide(subject, rules, clearances, usage, now=turn.now)


def admit(
    dispatcher: Dispatcher,
    spec: JobSpec,
    definition: TaskDefinition,
    settings: FarmSettings,
    *,
    use: Use | None,
    user: str,
    estimate: Mapping[str, Any] | None,
) -> JobSpec:
    """The spec with what the rules decided in its record. Raises: SubmissionRefused naming each broken rule."""
    of = partial(
        decide_job,
        spec=spec,
        definition=definition,
        settings=settings,
        use=use,
        user=user,
        estimate=estimate,
        book=dispatcher.usage_book,
    )
    decision = dispatcher.read(of)
    if refusals := decision.refusals():
        raise SubmissionRefused(refusals)
    return spec.model_copy(update={"use": decision.use, "policy": decision.as_json()})

"""What becomes of a training when its last step is accepted: a card with its lineage, and the scores of both that were judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select

from farm.cards import NewCard, ScoreView, add_card, add_score, same_card
from farm.statements import hot
from farm.tables import JOB
from farm.turn import Turn
from pipeline.jobs.training import LessonSpec, TrainingSpec

_SPEC = hot(select(JOB.c.spec).where(JOB.c.id == bindparam("of_job")))


def record_registered(turn: Turn, *, job: int, result: Mapping[str, Any]) -> None:
    """Keep what the register step found, in the transaction that accepts it: a card never lacks its score. An equal training
    that was done before has made the card already; then only the scores are new."""
    row = turn.tx.first(_SPEC, {"of_job": job})
    assert row is not None  # the chunk that was accepted is of it
    spec = TrainingSpec.model_validate_json(row.spec)
    candidate = None if spec.candidate is None else spec.candidate.card
    if result["model"] is not None:
        new = _card(spec, job, result["model"])
        candidate = (same_card(turn.tx, new) or add_card(turn, new)).id
    for who, card in (("candidate", candidate), ("present", spec.present.card)):
        found = result["scores"][who]
        score = ScoreView(card, job, result["protocol"], result["measure"], found["value"], found["shots"], turn.now)
        add_score(turn, spec.studio, spec.task, score)


def _card(spec: TrainingSpec, job: int, model: Mapping[str, Any]) -> NewCard:
    return NewCard(
        studio=spec.studio,
        task=spec.task,
        name=spec.name,
        family=model["family"],
        sha256=model["sha256"],
        path=model["path"],
        base=spec.base.card or spec.base.name,
        base_model=spec.base_card,
        licence=spec.licence,
        job=job,
        lineage={
            "origin": "trained",
            "versions": [_lesson(one) for one in spec.lessons],
            "held_out": [_lesson(one) for one in spec.held_out],
            "parameters": spec.parameters,
            "seed": spec.seed,
            "policy": spec.policy,
        },
        facts=model["facts"],
        note=spec.note,
        created_by=spec.user,
    )


def _lesson(one: LessonSpec) -> dict[str, Any]:
    return {"version": one.version, "name": one.name, "shot": one.address, "consent": one.clearance}

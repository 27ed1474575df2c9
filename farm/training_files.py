"""What a training reads, found on disk before anything runs: frames of versions, and weights that are still those of their cards.

Looked at in the child that reads strangers' files. Faults are gathered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.cards import CardView
from farm.inspector import Inspector
from farm.lessons import consent_to
from farm.records import VersionView
from farm.reservations import version_value
from pipeline.errors import Fault, PipelineError
from pipeline.jobs.spec import JobSpec, ModelSpec
from pipeline.jobs.training import AdapterSpec, AskedLesson, JudgedSpec, LessonSpec, SeenLesson
from pipeline.tasks.definition import TaskDefinition, TrainingDefinition


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """The files of one request. `faults` takes what is wrong with them."""

    inspector: Inspector
    definition: TaskDefinition
    training: TrainingDefinition
    faults: list[Fault]

    def lessons(
        self, versions: Sequence[VersionView], made_by: Mapping[int, JobSpec], decision: Mapping[str, Any]
    ) -> tuple[LessonSpec, ...]:
        """Those versions whose frames are there, each with whose consent the decision names. `made_by`: version → its job."""
        asked = [
            AskedLesson(
                name=version.name,
                pattern=str(version_value(version).pattern),
                frames=version.frames,
                layer=self.training.layer,
                **self._picture_of(version, made_by),
            ).model_dump(mode="json")
            for version in versions
        ]
        answer = self.inspector.call("lessons", {"asked": asked}) if asked else []
        found: list[LessonSpec] = []
        for version, one in zip(versions, map(SeenLesson.model_validate, answer), strict=True):
            if one.fault is not None:
                self.faults.append(Fault(one.fault.where, one.fault.message, one.fault.hint))
                continue
            assert one.plate is not None  # either it or a fault
            found.append(
                LessonSpec(
                    version=version.id,
                    name=version.name,
                    show=version.show,
                    sequence=version.sequence,
                    shot=version.shot,
                    product=version.product,
                    plate=one.plate,
                    picture=one.picture,
                    cuts=made_by[version.id].cuts if version.id in made_by else (),
                    clearance=consent_to(version, decision),
                )
            )
        return tuple(found)

    def _picture_of(self, version: VersionView, made_by: Mapping[int, JobSpec]) -> dict[str, Any]:
        """Where the plate's picture is had from, for a version whose own may be another: a matte's is cut out by its answer."""
        if not self.training.layer or version.product == self.training.products[0] or version.id not in made_by:
            return {}
        spec = made_by[version.id]
        return {"source": spec.plate, "hashes": spec.input_hashes}

    def base(self, card: CardView | None) -> ModelSpec:
        """What a training starts from: a card's weights, or the task's own."""
        return self._own() if card is None else self._weights(card, "base")

    def judged(self, card: CardView | None, base: ModelSpec, adapter_base: CardView | None) -> JudgedSpec:
        """A card as it is judged; without one the task's own weights, or for an adapter its base alone."""
        if card is None:
            own = base if self.training.parameter else self._own()
            return JudgedSpec(label=base.card or self.definition.default_model, model=own)
        below = adapter_base.label if adapter_base else ""
        if self.training.parameter and card.base_model is not None and base.card != below:
            # On another base it can't be measured alike; the base alone is what this one has to beat, and a promotion says so.
            return JudgedSpec(label=base.card, model=base)
        found = self._weights(card, "model")
        if not self.training.parameter or card.family != self.training.makes:
            return JudgedSpec(card=card.id, label=card.label, model=found)
        adapter = AdapterSpec(path=card.path, sha256=card.sha256)
        under = base if adapter_base is None else self._weights(adapter_base, "model")
        return JudgedSpec(card=card.id, label=card.label, model=under, adapters={self.training.parameter: adapter})

    def _own(self) -> ModelSpec:
        return ModelSpec(name=self.definition.default_model, licence=self.definition.default_licence)

    def _weights(self, card: CardView, where: str) -> ModelSpec:
        """A card's weights, found to be those that the card was made of."""
        try:
            self.inspector.call("check_model", {"path": card.path, "sha256": card.sha256})
        except PipelineError as error:
            self.faults.append(Fault(where, f"{card.label}: {error.message}", error.hint))
        return ModelSpec(
            name=card.label,
            path=card.path,
            family=card.family,
            sha256=card.sha256,
            card=card.label,
            licence=card.licence,
        )

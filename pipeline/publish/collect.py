"""Collect: what there is to publish, and the facts of every frame."""

from __future__ import annotations

from typing import Any

from pipeline.publish.inspection import inspect_frames, matte_layers
from pipeline.publish.plugin import COLLECT, ContextPlugin, PluginType, publication_of
from pipeline.quality.temporal import FlickerMeter

LOOKED = 0.9
"""How much of a publish is done when every frame was looked at: the rest is links and one rename."""


class CollectFrames(ContextPlugin):
    """Decode each frame once; keep its facts, measure its mattes, write its proxies into scratch."""

    order = COLLECT
    label = "frames"

    def process(self, context: Any) -> None:
        """Fill `facts` and `flicker`. Raises: StorageError, ParameterError, what `progress` raises."""
        publication = publication_of(context)
        request = publication.request
        meters: dict[str, FlickerMeter] = {}

        def each(done: int) -> None:
            publication.progress(LOOKED * done / max(1, len(request.frames)), "checking frames")

        folder = publication.scratch if request.proxies is not None else None
        for facts, mattes in inspect_frames(request, proxies=folder, each=each):
            publication.facts[facts.frame] = facts
            for layer, matte in mattes.items():
                meters.setdefault(layer, FlickerMeter()).add(facts.frame, matte)
        publication.flicker.update((layer, meter.result()) for layer, meter in meters.items())


class CollectInstances(ContextPlugin):
    """Say what is in the version: the plate, each matte layer, and review proxies where they are wanted."""

    order = COLLECT + 0.1
    label = "instances"

    def process(self, context: Any) -> None:
        """Create one instance for each, by family."""
        publication = publication_of(context)
        request = publication.request
        name = request.version.name
        context.create_instance(name, family="plate")
        layers = dict.fromkeys(
            layer for facts in publication.facts.values() for layer in matte_layers(request, facts.parts)
        )
        for layer in layers:
            context.create_instance(f"{name} {layer}", family="matte", layer=layer)
        if request.proxies is not None:
            context.create_instance(f"{name} review", family="review")
        if request.cut is not None:
            context.create_instance(f"{name} cut", family="cut")


PLUGINS: tuple[PluginType, ...] = (CollectFrames, CollectInstances)

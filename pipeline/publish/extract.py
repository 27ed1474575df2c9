"""Extract: what lies beside the frames — review proxies, the cut with this version in it, the provenance. All into scratch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.edit.otio_in import read_timeline
from pipeline.edit.otio_out import add_version, write_timeline
from pipeline.errors import PublishError
from pipeline.frames import FrameRange
from pipeline.layer import Layer, layers_of
from pipeline.media.exr import read_frame
from pipeline.media.image import place
from pipeline.media.transform import SHOT_CURVE
from pipeline.paths import storage_error
from pipeline.provenance import SCHEMA, to_plain, to_text
from pipeline.publish.collect import LOOKED
from pipeline.publish.plugin import EXTRACT, InstancePlugin, PluginType, Publication, publication_of
from pipeline.publish.values import proxy_path, shapes_folder, sidecar_path, timeline_path
from pipeline.quality.next_key import next_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNION = "matte"
"""The layer of all objects together."""

_IN_THE_CUT = ("schema", "job", "task", "take", "parameters", "seed", "model")
"""What of the record travels in the timeline; the rest lies in the sidecar."""


class ExtractFrames(InstancePlugin):
    """The frames themselves, by the version's own names."""

    order = EXTRACT
    label = "frames to place"
    families: ClassVar[list[str]] = ["plate"]

    def process(self, instance: Any) -> None:
        """Name each produced frame's place in the version."""
        publication = publication_of(instance)
        pattern = publication.request.version.pattern
        for frame in publication.request.frames:
            publication.files[pattern.name(frame)] = publication.request.produced[frame]


class ExtractReview(InstancePlugin):
    """The proxies that the inspection wrote while it had the frames in memory."""

    order = EXTRACT
    label = "review proxies"
    families: ClassVar[list[str]] = ["review"]

    def process(self, instance: Any) -> None:
        """Raises: PublishError (a proxy isn't there)."""
        publication = publication_of(instance)
        with_matte = any(facts.mattes for facts in publication.facts.values())
        for kind in ("beauty", "matte", "overlay") if with_matte else ("beauty",):
            for frame in publication.request.frames:
                made = proxy_path(publication.scratch, kind, frame)
                if not made.is_file():
                    raise PublishError(f"the {kind} proxy of frame {frame} was not made", "retry the publish")
                publication.files[str(made.relative_to(publication.scratch))] = made


class ExtractShapes(InstancePlugin):
    """A matte as editable shapes, one set of files for each object; the layer of all objects together has none."""

    order = EXTRACT
    label = "editable shapes"
    families: ClassVar[list[str]] = ["matte"]

    def process(self, instance: Any) -> None:
        """Raises: PlateError, StorageError, what `progress` raises."""
        publication = publication_of(instance)
        request, layer = publication.request, str(instance.data["layer"])
        objects = [name for name in request.added_layers if name != UNION]
        if request.splines is None or (layer == UNION and objects):
            return
        # Here, because most publishes want none.
        from pipeline.shapes.fit import shapes_of
        from pipeline.shapes.write import write_all

        shapes, found = shapes_of(
            _Planes(publication, f"{layer}.A"),
            name=layer,
            frames=request.frames,
            rate=request.rate or request.plate.rate,
            pictures=_Planes(publication, None),
            bar=request.splines,
            cuts=request.cuts,
        )
        publication.shapes[layer] = found.as_json()
        if found.below_bar:
            publication.warnings.append(
                f"the shapes of {layer} cover less than {request.splines:g} of it on {FrameRange.of(found.below_bar)}"
            )
        folder = shapes_folder(publication.scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for path in write_all(shapes, folder, f"{request.version.name}.{layer}"):
            publication.files[str(path.relative_to(publication.scratch))] = path


class _Planes(Mapping[int, "NDArray[np.float32]"]):
    """A channel of every produced frame, or its grey picture, read when it is asked for: a long shot fits into no memory."""

    def __init__(self, publication: Publication, channel: str | None) -> None:
        self._publication = publication
        self._channel = channel

    def __getitem__(self, frame: int) -> NDArray[np.float32]:
        request = self._publication.request
        self._publication.progress(LOOKED, f"shapes, frame {frame}")
        if self._channel is None:
            rgb = read_frame(request.produced[frame], only={"R", "G", "B", "Y"}).rgb()
            return SHOT_CURVE.forward(rgb.mean(axis=0))
        main = read_frame(request.produced[frame], only={self._channel}).main
        plane = main.channels[self._channel].astype(np.float32)
        return plane if main.data_window == main.display_window else place(plane, main.data_window, main.display_window)

    def __iter__(self) -> Iterator[int]:
        return iter(self._publication.request.frames)

    def __len__(self) -> int:
        return len(self._publication.request.frames)


class ExtractTimeline(InstancePlugin):
    """A copy of the cut in which the clip plays this version."""

    order = EXTRACT
    label = "cut"
    families: ClassVar[list[str]] = ["cut"]

    def process(self, instance: Any) -> None:
        """Raises: EditError (the timeline can't be read any more, the clip is gone), PublishError (no rate)."""
        publication = publication_of(instance)
        request = publication.request
        rate = request.rate or request.plate.rate
        if request.cut is None or rate is None:
            raise PublishError("the cut can't be written back without a frame rate", "give --rate")
        source, clip = request.cut
        told = {name: request.record[name] for name in _IN_THE_CUT if name in request.record}
        timeline = add_version(
            read_timeline(source),
            clip,
            version=request.version,
            frames=request.frames,
            rate=rate,
            record={**told, "sidecar": sidecar_path(request.version).name},
        )
        made = timeline_path(request.version, publication.scratch)
        write_timeline(timeline, made)
        publication.files[made.name] = made


class ExtractSidecar(InstancePlugin):
    """The provenance, complete: what was asked, what was made, how sure the model was. Last, since it names all others."""

    order = EXTRACT + 0.2
    label = "provenance"
    families: ClassVar[list[str]] = ["plate"]

    def process(self, instance: Any) -> None:
        """Raises: StorageError."""
        publication = publication_of(instance)
        path = sidecar_path(publication.request.version, publication.scratch)
        try:
            path.write_text(to_text(sidecar(publication)), encoding="utf-8")
        except OSError as error:
            raise storage_error(error, path) from error
        publication.files[path.name] = path


def sidecar(publication: Publication) -> dict[str, Any]:
    """The record of a publish that passed, as it is written."""
    request = publication.request
    digests = {frame: facts.digest for frame, facts in publication.facts.items()}
    listed = "\n".join(f"{frame} {digests[frame]}" for frame in sorted(digests))
    timeline = timeline_path(request.version).name
    # Keys tell of the plate as it was submitted: frames that were made of another must not be taken for its.
    replaced = any(facts.replaced for facts in publication.facts.values())
    made = {
        **request.record,
        "schema": SCHEMA,
        "version": {
            "name": request.version.name,
            "product": request.version.product,
            "number": request.version.number,
            "frames": str(request.frames),
            "layers": _labels(publication),
            "colorspace": request.plate.colorspace,
            "codec": request.codec,
            "otio": timeline if timeline in publication.files else None,
            "signed_by": None if request.signing is None else request.signing.name,
        },
        "content": {
            "digest": hashlib.sha256(listed.encode()).hexdigest(),
            "frames": digests,
            "keys": {frame: key for frame, key in request.content_keys.items() if frame in digests and not replaced},
            "reused": str(request.reused),
            "made": {
                "layers": request.added_layers,
                "changes_picture": request.changed_rgb,
                "makes_alpha": request.makes_alpha,
            },
        },
        "report": report(publication),
        "warnings": publication.warnings,
    }
    plain: dict[str, Any] = to_plain(made)
    return plain


def _labels(publication: Publication) -> list[str]:
    first = publication.facts[publication.request.frames.first]
    layers: list[Layer] = [layer for i, part in enumerate(first.parts) for layer in layers_of(part.channels, i)]
    return list(dict.fromkeys(layer.label for layer in layers))


def report(publication: Publication) -> dict[str, Any]:
    """What a person should know of the result: measures per frame, the frame to key next, the mattes' flicker."""
    request = publication.request
    frames: list[dict[str, Any]] = []
    for frame in request.frames:
        jumps = {
            layer: round(f.per_frame[frame], 4) for layer, f in publication.flicker.items() if frame in f.per_frame
        }
        frames.append({"frame": frame, **request.quality.get(frame, {}), **({"flicker": jumps} if jumps else {})})
    doubts = {
        frame: 1 - measures["confidence"] for frame, measures in request.quality.items() if "confidence" in measures
    }
    return {
        "frames": frames,
        "next_key": next_key(doubts, _keyed(request.record)) if request.painted else None,
        "shapes": publication.shapes,
        "flicker": {
            layer: {"score": round(flicker.score, 4), "worst": flicker.worst}
            for layer, flicker in publication.flicker.items()
        },
    }


def _keyed(record: Mapping[str, Any]) -> frozenset[int]:
    return frozenset(int(frame) for frames in record.get("keys", {}).values() for frame in frames)


PLUGINS: tuple[PluginType, ...] = (ExtractFrames, ExtractReview, ExtractShapes, ExtractTimeline, ExtractSidecar)

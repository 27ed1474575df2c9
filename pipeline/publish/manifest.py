"""C2PA manifests: what anybody can verify of a frame without asking us.

One `.c2pa` lies beside each frame of a version that a worker with a signing identity publishes. It is bound to every byte of its
frame, and to the version's sidecar by its SHA-256: so a frame that changed, one that is gone and a record that was edited
are all found. See docs/decisions/0014-a-manifest-beside-each-frame.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline import __version__
from pipeline.paths import storage_error
from pipeline.provenance import to_plain
from pipeline.publish.collect import LOOKED
from pipeline.publish.plugin import EXTRACT, InstancePlugin, PluginType, publication_of
from pipeline.publish.signing import FORMAT
from pipeline.publish.values import PublishRequest, manifest_path, sidecar_path

RECORD = "org.platewright.record"
"""The assertion that holds the essentials of our record."""
SCHEMA = "platewright.manifest/1"
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_OF_THE_MODEL = ("name", "card", "family", "sha256", "licence")
_LAST = 0.94
"""How much of a publish is done when everything is signed."""


class ExtractManifests(InstancePlugin):
    """A signed manifest for each frame, when the worker has a signing identity. After the sidecar, since it holds its hash."""

    order = EXTRACT + 0.3
    label = "signed manifests"
    families: ClassVar[list[str]] = ["plate"]

    def process(self, instance: Any) -> None:
        """Raises: PublishError (the certificate is refused), StorageError, what `progress` raises."""
        publication = publication_of(instance)
        request = publication.request
        if request.signing is None:
            return
        written = sidecar_path(request.version, publication.scratch)
        path = written
        try:
            data = written.read_bytes()
            record, digest = json.loads(data), hashlib.sha256(data).hexdigest()
            for done, frame in enumerate(request.frames):
                publication.progress(LOOKED + (_LAST - LOOKED) * done / len(request.frames), f"signing frame {frame}")
                path = request.produced[frame]
                made = request.signing.sign(manifest(request, frame, record=record, sidecar_sha256=digest), path)
                path = manifest_path(request.version, frame, publication.scratch)
                path.write_bytes(made)
                publication.files[path.name] = path
        except OSError as error:
            raise storage_error(error, path) from error


def manifest(request: PublishRequest, frame: int, *, record: Mapping[str, Any], sidecar_sha256: str) -> dict[str, Any]:
    """What is claimed of one frame, as the C2PA library takes it. `record` is the sidecar as it was written."""
    made = frame in request.missing
    source = request.like(frame)
    digest = request.input_hashes.get(source)
    plate: dict[str, Any] = {
        "title": request.plate.pattern.name(source),
        "format": FORMAT if request.plate.pattern.tail.lower() == ".exr" else "application/octet-stream",
        "relationship": "inputTo" if made else "parentOf",
        "label": "plate",
    }
    if digest is not None:
        plate["instance_id"] = f"xxh3-128:{digest}"
        plate["description"] = "the instance id is the XXH3-128 of the frame's pixels and header attributes"
    agent = {"name": f"platewright {record['task']}", "version": __version__}
    done = {"softwareAgent": agent, "digitalSourceType": _IPTC + source_type(record, made=made)}
    of_the_plate = {"ingredientIds": ["plate"]}
    actions = (
        [{"action": "c2pa.created", "parameters": of_the_plate, **done}]
        if made
        else [{"action": "c2pa.opened", "parameters": of_the_plate}, {"action": "c2pa.edited", **done}]
    )
    return {
        "claim_generator_info": [{"name": "platewright", "version": __version__}],
        "title": request.version.pattern.name(frame),
        "format": FORMAT,
        "ingredients": [plate],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}, "created": True},
            {
                "label": RECORD,
                "data": essentials(record, frame, sidecar=sidecar_path(request.version).name, sha256=sidecar_sha256),
                "created": True,
            },
        ],
    }


def source_type(record: Mapping[str, Any], *, made: bool) -> str:
    """The IPTC term for what was done: by trained weights or by an algorithm alone, to the plate's frame or in place of one.

    A task's own weights have a licence and other weights a hash; what computes without any has neither.
    """
    model = record.get("model", {})
    trained = bool(record.get("weights")) or any(model.get(name) for name in ("sha256", "path", "licence"))
    if made:
        return "trainedAlgorithmicMedia" if trained else "algorithmicMedia"
    return "compositeWithTrainedAlgorithmicMedia" if trained else "compositeSynthetic"


def essentials(record: Mapping[str, Any], frame: int, *, sidecar: str, sha256: str) -> dict[str, Any]:
    """What of the record every frame carries, signed: enough to judge it by, and the hash of all the rest."""
    parameters = json.dumps(record["parameters"], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    model = record.get("model", {})
    found: dict[str, Any] = to_plain(
        {
            "schema": SCHEMA,
            "version": record["version"]["name"],
            "frames": record["version"]["frames"],
            "frame": frame,
            "pixels": f"xxh3-128:{record['content']['frames'][str(frame)]}",
            "sidecar": {"name": sidecar, "sha256": sha256},
            "shot": record["shot"],
            "job": record["job"],
            "user": record["user"],
            "task": record["task"],
            "model": {name: model[name] for name in _OF_THE_MODEL if model.get(name)},
            "weights": record.get("weights", {}),
            "parameters_sha256": hashlib.sha256(parameters.encode()).hexdigest(),
            "seed": record["seed"],
            "created": record["created"],
        }
    )
    return found


PLUGINS: tuple[PluginType, ...] = (ExtractManifests,)

"""Does a published version still hold? Its frames against its sidecar, its manifests against its frames, its sidecar and their signer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, PublishError
from pipeline.frames import FrameRange
from pipeline.media.exr import pixel_hash, read_frame
from pipeline.media.files import read_error
from pipeline.media.stream import FrameReader
from pipeline.plate import FramePattern
from pipeline.provenance import SCHEMA
from pipeline.publish.manifest import RECORD, essentials
from pipeline.publish.signing import FORMAT, c2pa_library, reader_context

_TRUSTED = "signingCredential.trusted"
_UNTRUSTED = "signingCredential.untrusted"


@dataclass(frozen=True, slots=True)
class VersionFault:
    """One thing that doesn't hold. `frame` is None when it is said of the whole version."""

    frame: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed a frame's manifest, and whether anybody who is trusted here vouches for them."""

    name: str
    issuer: str
    algorithm: str
    serial: str
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found of one version."""

    version: str
    sidecar: Path
    frames: FrameRange
    """What the sidecar says was published."""
    record: Mapping[str, Any]
    """The sidecar, as it lies there."""
    sidecar_sha256: str
    signatures: tuple[Signature, ...] = ()
    """Everybody who signed a frame, each once; empty: the version is not signed."""
    signed: FrameRange = field(default_factory=FrameRange)
    """Frames with a manifest."""
    faults: tuple[VersionFault, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.faults

    @property
    def differ(self) -> FrameRange:
        """Frames that something is wrong with."""
        return FrameRange.of(fault.frame for fault in self.faults if fault.frame is not None)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "version": self.version,
            "sidecar": str(self.sidecar),
            "sidecar_sha256": self.sidecar_sha256,
            "holds": self.holds,
            "frames": str(self.frames),
            "signed": str(self.signed),
            "signatures": [asdict(signature) for signature in self.signatures],
            "differ": str(self.differ),
            "faults": [asdict(fault) for fault in self.faults],
            **{name: self.record.get(name) for name in ("job", "user", "task", "take", "model", "weights", "created")},
        }


def verify_version(target: Path, *, anchors: bytes | None = None, threads: int = 2) -> Verification:
    """Decode every frame of a version and look at its manifest. `target` is the version's folder or its sidecar.

    With `anchors`, PEM roots that are trusted to vouch for a signer, a version that nobody vouched for doesn't hold.
    Raises: PublishError (no sidecar of ours there; manifests and no C2PA library), StorageError.
    """
    path = _sidecar(target)
    data = _read(path)
    record = _record(data, path)
    look = _Look(path, data, record, anchors)
    signatures: dict[Signature, None] = {}
    faults: list[VersionFault] = []
    signed: list[int] = []
    frames = look.frames
    with FrameReader(look.frame, frames.frames, ahead=threads, behind=0, threads=threads) as reader:
        for frame in frames:
            messages, signature, has_manifest = reader.get(frame)
            faults += [VersionFault(frame, message) for message in messages]
            if has_manifest:
                signed.append(frame)
            if signature is not None:
                signatures[signature] = None
    faults += [VersionFault(None, message) for message in look.whole(FrameRange.of(signed), tuple(signatures))]
    return Verification(
        version=look.name,
        sidecar=path,
        frames=frames,
        record=record,
        sidecar_sha256=hashlib.sha256(data).hexdigest(),
        signatures=tuple(signatures),
        signed=FrameRange.of(signed),
        faults=tuple(faults),
    )


def _sidecar(target: Path) -> Path:
    """The sidecar that is meant. Raises: PublishError."""
    if target.is_file():
        return target
    if not target.is_dir():
        raise PublishError(f"{target} doesn't exist", "give a version's folder, or its sidecar")
    found = [path for path in sorted(target.glob("*.json")) if _is_ours(path)]
    if len(found) != 1:
        raise PublishError(
            f"{target} holds {'several sidecars' if found else 'no sidecar'} of a version",
            "give the sidecar itself" if found else "give the folder that the frames lie in, such as …/roto/v001",
        )
    return found[0]


def _is_ours(path: Path) -> bool:
    try:
        return isinstance(_record(_read(path), path), dict)
    except PipelineError:
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise read_error(error, path) from error


def _record(data: bytes, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(data)
        schema = record["schema"]
        frames = record["content"]["frames"]
        known = schema == SCHEMA and all(isinstance(digest, str) for digest in frames.values())
        FrameRange.of(int(frame) for frame in frames)
        FrameRange.parse(record["version"]["frames"])
        name = record["version"]["name"]
        known = known and isinstance(name, str) and bool(name) and Path(name).name == name
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PublishError(
            f"{path} is no sidecar of a version: {type(error).__name__}", "give the .json beside the frames"
        ) from error
    if not known:
        raise PublishError(f"{path} is a sidecar of {schema!r}, not of {SCHEMA}", "use the release that wrote it")
    plain: dict[str, Any] = record
    return plain


class _Look:
    """One version under test."""

    def __init__(self, sidecar: Path, data: bytes, record: Mapping[str, Any], anchors: bytes | None) -> None:
        self.name = str(record["version"]["name"])
        self.digests = {int(frame): digest for frame, digest in record["content"]["frames"].items()}
        self.frames = FrameRange.parse(record["version"]["frames"])
        self._sidecar, self._record, self._anchors = sidecar, record, anchors
        self._sha256 = hashlib.sha256(data).hexdigest()
        self._pattern = FramePattern(sidecar.parent, f"{self.name}.", 4, ".exr")

    def frame(self, frame: int) -> tuple[list[str], Signature | None, bool]:
        """What is wrong with a frame, who signed it, and whether it has a manifest."""
        path = self._pattern.path(frame)
        manifest = path.with_suffix(".c2pa")
        messages: list[str] = []
        if not path.exists():
            return ["is missing"], None, manifest.exists()
        try:
            if pixel_hash(read_frame(path)) != self.digests.get(frame):
                messages.append("isn't what was published: its pixels or its header changed")
        except PipelineError as error:
            messages.append(error.message)
        if not manifest.exists():
            return messages, None, False
        said, signature = self._manifest(frame, path, _read(manifest))
        return messages + said, signature, True

    def whole(self, signed: FrameRange, signatures: tuple[Signature, ...]) -> Iterator[str]:
        """What is wrong with the version as one."""
        if set(self.digests) != self.frames.as_set():
            yield "the sidecar's hashes are not those of its frames"
        claimed = self._record["version"].get("signed_by")
        if claimed and not signed:
            yield f"the sidecar says that {claimed} signed, and no frame has a manifest"
        elif signed and signed != self.frames:
            yield f"frames {self.frames - signed} have no manifest"
        elif self._anchors is not None and not signed:
            yield "it is not signed"
        if len(signatures) > 1:
            yield f"it was signed by {len(signatures)}: {', '.join(one.name for one in signatures)}"
        others = sorted(
            path.name
            for path in self._sidecar.parent.glob("*.exr")
            if path.name not in {self._pattern.name(frame) for frame in self.frames}
        )
        if others:
            yield f"{others[0]} lies there and is none of its frames" + (
                f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            )

    def _manifest(self, frame: int, path: Path, data: bytes) -> tuple[list[str], Signature | None]:
        c2pa = c2pa_library()
        try:
            with (
                path.open("rb") as source,
                reader_context(self._anchors) as context,
                c2pa.Reader(FORMAT, source, data, context) as reader,
            ):
                store = json.loads(reader.json())
        except c2pa.C2paError as error:
            return [f"its manifest can't be read: {error}"], None
        except OSError as error:
            raise read_error(error, path) from error
        active = store["manifests"][store["active_manifest"]]
        results = store["validation_results"]["activeManifest"]
        success = {found["code"] for found in results["success"]}
        messages = [
            _in_words(found) for found in results["failure"] if found["code"] != _UNTRUSTED or self._anchors is not None
        ]
        if "assertion.dataHash.match" not in success and not messages:
            messages.append("its manifest is bound to no file")
        told = next((a["data"] for a in active.get("assertions", ()) if a["label"] == RECORD), None)
        if told is None:
            messages.append("its manifest isn't one of ours: it has no record")
        else:
            messages += self._agreement(frame, told)
        info = active.get("signature_info", {})
        return messages, Signature(
            name=str(info.get("common_name") or ""),
            issuer=str(info.get("issuer") or ""),
            algorithm=str(info.get("alg") or ""),
            serial=str(info.get("cert_serial_number") or ""),
            trusted=_TRUSTED in success,
        )

    def _agreement(self, frame: int, told: Mapping[str, Any]) -> Iterator[str]:
        """How the signed record and the sidecar disagree."""
        try:
            expected = essentials(self._record, frame, sidecar=self._sidecar.name, sha256=self._sha256)
        except (KeyError, TypeError, AttributeError):
            yield "the sidecar lacks what its manifest says of it"
            return
        differ = [name for name in expected if told.get(name) != expected[name]]
        if differ == ["sidecar"]:
            yield "was signed with another sidecar: the record was edited or renamed since"
        elif told != expected:
            yield f"its signed record and the sidecar disagree on {', '.join(differ) or 'what they hold'}"


_WORDS = {
    "assertion.dataHash.mismatch": "isn't the file that was signed",
    _UNTRUSTED: "was signed by somebody whom none of the trusted certificates vouches for",
    "signingCredential.expired": "was signed with a certificate that has ended",
    "claimSignature.mismatch": "has a manifest whose signature is wrong",
    "claimSignature.missing": "has a manifest without a signature",
    "assertion.hashedURI.mismatch": "has a manifest that was changed after it was signed",
}


def _in_words(found: Mapping[str, Any]) -> str:
    code = str(found["code"])
    return _WORDS.get(code) or f"its manifest doesn't hold: {code}: {found.get('explanation', '')}"

"""A signed version: what anybody's C2PA reader says of it, and what is found when something was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import c2pa
import pytest
from click.testing import CliRunner

from farm.cli.provenance import provenance
from pipeline.errors import PublishError
from pipeline.frames import FrameRange
from pipeline.media.exr import read_frame, write_frame
from pipeline.publish.manifest import RECORD, manifest, source_type
from pipeline.publish.run import PublishedVersion
from pipeline.publish.signing import signing_identity
from pipeline.publish.values import manifest_path
from pipeline.publish.verify import Verification, verify_version
from tests.certificates import Chain, new_chain
from tests.unit.publish.conftest import FRAMES, with_channels


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return new_chain(tmp_path_factory.mktemp("ca") / "one")


@pytest.fixture
def signed(bench: Any, chain: Chain, hashes: dict[int, str]) -> PublishedVersion:
    """The bench's version, published by a worker that signs."""
    bench.ask(signing=signing_identity(chain.environment()), input_hashes=hashes)
    published: PublishedVersion = bench.run()
    return published


def frame_path(version: PublishedVersion, frame: int) -> Path:
    return version.folder / f"{version.name}.{frame}.exr"


def strangers_view(path: Path, chain: Chain) -> dict[str, Any]:
    """What C2PA's own reader says, given the frame, what lies beside it, and the root."""
    trust = {"trust": {"user_anchors": chain.root.read_text()}, "verify": {"remote_manifest_fetch": False}}
    with path.open("rb") as file, c2pa.Context.from_dict(trust) as context:
        data = path.with_suffix(".c2pa").read_bytes()
        with c2pa.Reader("image/x-exr", file, data, context) as reader:
            found: dict[str, Any] = json.loads(reader.json())
    return found


def active(store: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = store["manifests"][store["active_manifest"]]
    return found


def assertion(store: dict[str, Any], label: str) -> Any:
    (found,) = (a["data"] for a in active(store)["assertions"] if a["label"] == label)
    return found


def messages(found: Verification) -> dict[int | None, list[str]]:
    out: dict[int | None, list[str]] = {}
    for fault in found.faults:
        out.setdefault(fault.frame, []).append(fault.message)
    return out


# What is signed


def test_anybodys_reader_trusts_each_frame_beside_its_manifest(signed: PublishedVersion, chain: Chain) -> None:
    for frame in FRAMES:
        store = strangers_view(frame_path(signed, frame), chain)
        assert store["validation_state"] == "Trusted"
        codes = {one["code"] for one in store["validation_results"]["activeManifest"]["success"]}
        assert "assertion.dataHash.match" in codes
        assert active(store)["title"] == f"{signed.name}.{frame}.exr"
        assert active(store)["claim_generator_info"][0]["name"] == "platewright"


def test_the_frame_itself_is_not_touched_by_signing(bench: Any, signed: PublishedVersion) -> None:
    for frame in FRAMES:
        assert frame_path(signed, frame).read_bytes() == bench.request.produced[frame].read_bytes()


def test_the_manifest_says_what_was_done_to_which_plate(
    signed: PublishedVersion, chain: Chain, hashes: dict[int, str]
) -> None:
    store = strangers_view(frame_path(signed, 1002), chain)
    (plate,) = active(store)["ingredients"]
    assert (plate["title"], plate["relationship"]) == ("sh010.1002.exr", "parentOf")
    assert plate["instance_id"] == f"xxh3-128:{hashes[1002]}"
    opened, edited = assertion(store, "c2pa.actions.v2")["actions"]
    assert (opened["action"], edited["action"]) == ("c2pa.opened", "c2pa.edited")
    assert edited["softwareAgent"]["name"] == "platewright roto"
    assert edited["digitalSourceType"].startswith("http://cv.iptc.org/newscodes/digitalsourcetype/")


def test_the_manifest_holds_the_essentials_of_the_record_and_the_hash_of_all_of_it(
    signed: PublishedVersion, chain: Chain
) -> None:
    record = json.loads(signed.sidecar.read_text())
    told = assertion(strangers_view(frame_path(signed, 1004), chain), RECORD)
    assert told["version"] == signed.name
    assert (told["frame"], told["frames"]) == (1004, str(FRAMES))
    assert told["sidecar"]["sha256"] == hashlib.sha256(signed.sidecar.read_bytes()).hexdigest()
    assert told["pixels"] == f"xxh3-128:{record['content']['frames']['1004']}"
    assert (told["job"], told["user"], told["task"], told["seed"]) == (7, "ann", "roto", 11)
    assert told["model"] == {"name": "roto@production"}
    assert record["version"]["signed_by"] == "Platewright farm"


def test_a_frame_that_the_plate_has_not_was_created_from_the_nearest(bench: Any, signed: PublishedVersion) -> None:
    record = json.loads(signed.sidecar.read_text())
    asked = replace(
        bench.request,
        missing=FrameRange.of([1005]),
        plate=replace(bench.request.plate, frames=FrameRange.span(1001, 1004)),
    )
    made = manifest(asked, 1005, record=record, sidecar_sha256="")
    (action,) = made["assertions"][0]["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert made["ingredients"][0]["relationship"] == "inputTo"
    assert made["ingredients"][0]["title"] == "sh010.1004.exr"
    assert bench.request.signing is not None
    assert bench.request.signing.sign(made, frame_path(signed, 1005))


@pytest.mark.parametrize(
    ("record", "made", "term"),
    [
        ({"model": {"name": "net", "licence": "Apache-2.0"}}, False, "compositeWithTrainedAlgorithmicMedia"),
        ({"model": {"sha256": "ab"}}, True, "trainedAlgorithmicMedia"),
        ({"model": {"name": "mosaic"}, "weights": {"lora": "ab"}}, True, "trainedAlgorithmicMedia"),
        ({"model": {"name": "mosaic"}, "weights": {}}, True, "algorithmicMedia"),
        ({"model": {"name": "mosaic"}}, False, "compositeSynthetic"),
    ],
)
def test_the_source_type_tells_trained_weights_from_an_algorithm(record: dict[str, Any], made: bool, term: str) -> None:
    assert source_type(record, made=made) == term


def test_without_an_identity_there_is_no_manifest(bench: Any) -> None:
    published = bench.run()
    assert not list(published.folder.glob("*.c2pa"))
    assert json.loads(published.sidecar.read_text())["version"]["signed_by"] is None


def test_a_cancel_between_two_signatures_leaves_nothing(bench: Any, chain: Chain) -> None:
    class Stop(PublishError):
        pass

    def progress(fraction: float, note: str) -> None:
        del fraction
        if note == "signing frame 1003":
            raise Stop("stop")

    from pipeline.publish.run import publish

    bench.ask(signing=signing_identity(chain.environment()))
    with pytest.raises(Stop):
        publish(bench.request, progress=progress)
    assert bench.left() == []


# What verification finds


def test_an_untouched_version_holds(signed: PublishedVersion, chain: Chain) -> None:
    for target in (signed.folder, signed.sidecar):
        found = verify_version(target, anchors=chain.root.read_bytes())
        assert found.holds, found.faults
        assert found.signed == FRAMES
        (signature,) = found.signatures
        assert (signature.name, signature.issuer, signature.algorithm) == ("Platewright farm", "A studio", "Es256")
        assert signature.trusted


def test_without_roots_it_holds_and_says_that_nobody_vouched(signed: PublishedVersion) -> None:
    found = verify_version(signed.folder)
    assert found.holds
    assert not found.signatures[0].trusted


def repaint(path: Path) -> None:
    frame = read_frame(path)
    plane = frame.main.channels["R"].copy()
    plane[0, 0] += 1
    path.unlink()
    write_frame(path, with_channels(frame, {"R": plane}))


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(data)


def repack(path: Path) -> None:
    """The same pixels and header in other bytes."""
    frame = read_frame(path)
    path.unlink()
    write_frame(path, frame, codec="piz")


def test_a_painted_frame_is_named_and_the_others_hold(signed: PublishedVersion) -> None:
    repaint(frame_path(signed, 1003))
    found = verify_version(signed.folder)
    assert found.differ == FrameRange.of([1003])
    assert messages(found) == {
        1003: ["isn't what was published: its pixels or its header changed", "isn't the file that was signed"]
    }


def test_an_unsigned_version_is_held_to_its_pixels(bench: Any) -> None:
    published = bench.run()
    assert verify_version(published.folder).holds
    repaint(frame_path(published, 1001))
    assert verify_version(published.folder).differ == FrameRange.of([1001])


def test_the_same_pixels_in_another_file_are_not_what_was_signed(signed: PublishedVersion) -> None:
    repack(frame_path(signed, 1001))
    assert messages(verify_version(signed.folder)) == {1001: ["isn't the file that was signed"]}


def test_a_frame_that_is_gone_is_named(signed: PublishedVersion) -> None:
    frame_path(signed, 1005).unlink()
    assert messages(verify_version(signed.folder)) == {1005: ["is missing"]}


def test_a_frame_that_was_cut_off_is_named(signed: PublishedVersion) -> None:
    path = frame_path(signed, 1002)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])
    found = verify_version(signed.folder)
    assert found.differ == FrameRange.of([1002])
    assert any(str(path) in message for message in messages(found)[1002])


def edit(sidecar: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(sidecar.read_text())
    change(record)
    sidecar.unlink()
    sidecar.write_text(json.dumps(record))


def test_an_edited_record_is_found_even_when_the_signed_essentials_agree(signed: PublishedVersion) -> None:
    edit(signed.sidecar, lambda record: record["warnings"].append("none, really"))
    found = messages(verify_version(signed.folder))
    assert found == {f: ["was signed with another sidecar: the record was edited or renamed since"] for f in FRAMES}


def test_a_record_that_names_somebody_else_is_found(signed: PublishedVersion) -> None:
    edit(signed.sidecar, lambda record: record.update(user="eve"))
    assert messages(verify_version(signed.folder))[1001] == [
        "its signed record and the sidecar disagree on sidecar, user"
    ]


def test_a_record_that_lacks_what_was_signed_is_found(signed: PublishedVersion) -> None:
    edit(signed.sidecar, lambda record: record.pop("user"))
    assert messages(verify_version(signed.folder))[1001] == ["the sidecar lacks what its manifest says of it"]


def test_a_manifest_of_another_frame_is_found(signed: PublishedVersion) -> None:
    one, other = (frame_path(signed, frame).with_suffix(".c2pa") for frame in (1001, 1002))
    one.unlink()
    shutil.copy(other, one)
    assert "isn't the file that was signed" in messages(verify_version(signed.folder))[1001]


def test_two_frames_that_changed_places_with_their_manifests_are_found(signed: PublishedVersion) -> None:
    """Each is still bound to its own manifest: only the record tells."""
    first, second = frame_path(signed, 1001), frame_path(signed, 1002)
    for suffix in (".exr", ".c2pa"):
        aside = first.with_suffix(".aside")
        first.with_suffix(suffix).rename(aside)
        second.with_suffix(suffix).rename(first.with_suffix(suffix))
        aside.rename(second.with_suffix(suffix))
    assert verify_version(signed.folder).differ == FrameRange.of([1001, 1002])


def test_a_manifest_that_was_changed_is_found(signed: PublishedVersion) -> None:
    path = frame_path(signed, 1001).with_suffix(".c2pa")
    data = path.read_bytes()
    assert b"ann" in data
    path.unlink()
    path.write_bytes(data.replace(b"ann", b"eve"))
    found = verify_version(signed.folder)
    assert found.differ == FrameRange.of([1001])


def test_a_manifest_that_is_rubbish_is_found(signed: PublishedVersion) -> None:
    path = frame_path(signed, 1001).with_suffix(".c2pa")
    path.unlink()
    path.write_bytes(b"rubbish")
    assert "its manifest can't be read" in messages(verify_version(signed.folder))[1001][0]


def test_a_manifest_that_is_gone_is_named_by_its_frame(signed: PublishedVersion) -> None:
    frame_path(signed, 1004).with_suffix(".c2pa").unlink()
    assert messages(verify_version(signed.folder)) == {None: ["frames 1004 have no manifest"]}


def test_all_manifests_taken_away_are_missed(signed: PublishedVersion) -> None:
    for path in signed.folder.glob("*.c2pa"):
        path.unlink()
    assert messages(verify_version(signed.folder)) == {
        None: ["the sidecar says that Platewright farm signed, and no frame has a manifest"]
    }


def test_a_frame_too_many_is_told(signed: PublishedVersion) -> None:
    shutil.copy(frame_path(signed, 1001), frame_path(signed, 1099))
    assert messages(verify_version(signed.folder)) == {
        None: [f"{signed.name}.1099.exr lies there and is none of its frames"]
    }


def test_a_signer_whom_no_trusted_root_vouches_for_does_not_hold(signed: PublishedVersion, tmp_path: Path) -> None:
    other = new_chain(tmp_path / "other")
    found = verify_version(signed.folder, anchors=other.root.read_bytes())
    assert not found.holds
    assert found.differ == FRAMES
    assert "none of the trusted certificates vouches for" in messages(found)[1001][0]


def test_an_unsigned_version_does_not_hold_where_trust_is_asked(bench: Any, chain: Chain) -> None:
    published = bench.run()
    found = verify_version(published.folder, anchors=chain.root.read_bytes())
    assert messages(found) == {None: ["it is not signed"]}


def test_a_version_signed_by_two_is_told(bench: Any, signed: PublishedVersion, chain: Chain, tmp_path: Path) -> None:
    other = signing_identity(new_chain(tmp_path / "other", name="Somebody").environment())
    assert other is not None
    record = json.loads(signed.sidecar.read_text())
    digest = hashlib.sha256(signed.sidecar.read_bytes()).hexdigest()
    made = other.sign(manifest(bench.request, 1001, record=record, sidecar_sha256=digest), frame_path(signed, 1001))
    path = manifest_path(bench.request.version, 1001)
    path.unlink()
    path.write_bytes(made)
    assert messages(verify_version(signed.folder)) == {None: ["it was signed by 2: Somebody, Platewright farm"]}


def test_a_version_outlives_its_signers_certificate_but_not_as_signed(bench: Any, tmp_path: Path) -> None:
    """Nothing says when it was signed, since no time-stamp authority is asked."""
    ends = datetime.now(UTC) + timedelta(seconds=6)
    bench.ask(signing=signing_identity(new_chain(tmp_path / "short", ends=ends).environment()))
    published = bench.run()
    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 1.5)
    assert messages(verify_version(published.folder)) == {
        frame: ["was signed with a certificate that has ended"] for frame in FRAMES
    }


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "another/1"}', '{"schema": "platewright.provenance/1"}'])
def test_a_file_that_is_no_sidecar_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    for target in (tmp_path, tmp_path / "v.json", tmp_path / "none"):
        with pytest.raises(PublishError) as caught:
            verify_version(target)
        assert caught.value.hint


@pytest.mark.parametrize("name", ["../v002/elsewhere", "/etc/elsewhere", "", 7, None])
def test_a_sidecar_leads_to_no_other_folder(bench: Any, name: object) -> None:
    published = bench.run()
    edit(published.sidecar, lambda record: record["version"].update(name=name))
    with pytest.raises(PublishError):
        verify_version(published.sidecar)


# The command


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(provenance, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_command_says_who_signed_with_which_model_and_ends_with_0(signed: PublishedVersion, chain: Chain) -> None:
    code, said = run(signed.folder, "--trust", chain.root)
    assert code == 0
    assert "signed   by Platewright farm (A studio), Es256" in said
    assert "; trusted" in said
    assert "model    roto@production" in said
    assert "licence  not known" in said
    assert "holds    every frame is what was published" in said


def test_the_command_names_what_differs_and_ends_with_3(signed: PublishedVersion) -> None:
    repaint(frame_path(signed, 1003))
    code, said = run(signed.sidecar)
    assert code == 3
    assert "BAD      frame 1003: isn't the file that was signed" in said
    assert "differs  frames 1003" in said


def test_the_command_speaks_json(signed: PublishedVersion) -> None:
    frame_path(signed, 1002).unlink()
    code, said = run(signed.folder, "--json")
    told = json.loads(said)
    assert code == 3
    assert (told["holds"], told["differ"], told["signed"]) == (False, "1002", str(FRAMES))
    assert told["faults"] == [{"frame": 1002, "message": "is missing"}]
    assert told["signatures"][0]["name"] == "Platewright farm"
    assert told["model"] == {"name": "roto@production"}

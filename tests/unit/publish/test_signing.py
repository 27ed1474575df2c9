"""Who signs: every identity that can't is refused before anything is published, with what to do."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from pipeline.errors import PublishError
from pipeline.publish.signing import CERTIFICATE, KEY, signing_identity
from tests.certificates import NOW, Chain, new_chain, new_key, write_key


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(PublishError) as caught:
        signing_identity(environment)
    assert caught.value.hint
    return caught.value.message


def test_without_settings_nobody_signs() -> None:
    assert signing_identity({}) is None
    assert signing_identity({CERTIFICATE: "", KEY: ""}) is None


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("p256", "es256"), ("p384", "es384"), ("rsa", "ps256"), ("ed25519", "ed25519")]
)
def test_the_algorithm_follows_from_the_key(tmp_path: Path, kind: str, algorithm: str) -> None:
    identity = signing_identity(new_chain(tmp_path / "ca", kind=kind).environment())
    assert identity is not None
    assert identity.algorithm == algorithm
    assert identity.name == "Platewright farm"
    assert abs(identity.until - (NOW + timedelta(days=30))) < timedelta(seconds=1)


def test_the_key_is_in_no_text_of_the_identity(tmp_path: Path) -> None:
    identity = signing_identity(new_chain(tmp_path / "ca").environment())
    assert "PRIVATE" not in repr(identity)


@pytest.mark.parametrize("missing", [CERTIFICATE, KEY])
def test_one_file_of_the_two_is_refused(tmp_path: Path, missing: str) -> None:
    environment = new_chain(tmp_path / "ca").environment()
    del environment[missing]
    assert f"and {missing} isn't" in refusal(environment)


@pytest.mark.parametrize("which", ["certificates", "key"])
def test_a_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path, which: str) -> None:
    chain = new_chain(tmp_path / "ca")
    path: Path = getattr(chain, which)
    path.unlink()
    assert f"{path} can't be read" in refusal(chain.environment())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    chain = new_chain(tmp_path / "ca")
    chain.key.chmod(mode)
    assert f"others can read or change {chain.key} (mode {mode:03o})" in refusal(chain.environment())


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    chain, other = new_chain(tmp_path / "a"), new_chain(tmp_path / "b")
    assert "doesn't belong" in refusal(Chain(chain.certificates, other.key, chain.root).environment())


def test_a_certificate_that_has_ended_is_refused(tmp_path: Path) -> None:
    ended = NOW - timedelta(days=3)
    chain = new_chain(tmp_path / "ca", begins=NOW - timedelta(days=9), ends=ended)
    assert f"the certificate Platewright farm in {chain.certificates} ended on {ended:%Y-%m-%d}" in refusal(
        chain.environment()
    )


def test_a_certificate_that_has_not_begun_is_refused(tmp_path: Path) -> None:
    chain = new_chain(tmp_path / "ca", begins=NOW + timedelta(days=3))
    assert "begins on" in refusal(chain.environment())


def test_a_certificate_for_something_else_is_refused_before_a_frame_is_signed(tmp_path: Path) -> None:
    chain = new_chain(tmp_path / "ca", usage=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    assert "Platewright farm can't sign" in refusal(chain.environment())


def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    chain = new_chain(tmp_path / "ca")
    write_key(chain.key, new_key("p256"), password=b"secret")
    assert "has a password" in refusal(chain.environment())


def test_a_key_of_a_kind_that_c2pa_has_not_is_refused(tmp_path: Path) -> None:
    assert "doesn't sign with" in refusal(new_chain(tmp_path / "ca", kind="k256").environment())


@pytest.mark.parametrize("which", ["certificates", "key"])
def test_a_file_that_is_no_pem_is_refused(tmp_path: Path, which: str) -> None:
    chain = new_chain(tmp_path / "ca")
    path: Path = getattr(chain, which)
    path.write_bytes(b"not a PEM file")
    assert str(path) in refusal(chain.environment())


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """In a process of its own, from whose path the library is taken away."""
    script = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == "c2pa":
            raise ModuleNotFoundError("No module named 'c2pa'")
sys.meta_path.insert(0, Gone())
from pipeline.errors import PublishError
from pipeline.publish.signing import signing_identity
try:
    signing_identity()
except PublishError as error:
    print(error.message, "|", error.hint)
"""
    environment = new_chain(tmp_path / "ca").environment()
    said = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "the C2PA library is not installed here" in said.stdout
    assert said.stdout.strip().endswith("pip install 'platewright[provenance]'")

"""Who signs a version: a certificate chain and its key, from the worker's environment.

The C2PA library is an extra and is only imported when there is something to sign or to verify. It never asks the network here:
no time-stamp authority, no revocation lists, no remote manifests.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PublishError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

CERTIFICATE, KEY = "PLATEWRIGHT_SIGNING_CERT", "PLATEWRIGHT_SIGNING_KEY"
FORMAT = "image/x-exr"
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningIdentity:
    """What signs, checked: the key belongs to the certificate, and the certificate is valid now."""

    certificates: bytes
    """PEM, the signer's own first, then those that vouch for it."""
    key: bytes = field(repr=False)
    """PEM, PKCS #8."""
    algorithm: str
    """As C2PA names it: `es256`, `es384`, `es512`, `ps256` or `ed25519`."""
    name: str
    """The certificate's common name, else its whole subject."""
    until: datetime
    """When the first certificate of the chain ends."""

    def sign(self, manifest: Mapping[str, Any], file: Path) -> bytes:
        """The C2PA manifest store for a frame that isn't touched, bound to every byte of it.

        Raises: PublishError (the C2PA library refuses the certificate or the manifest), OSError (the frame can't be read).
        """
        with file.open("rb") as source:
            return self._sign(manifest, source)

    def _sign(self, manifest: Mapping[str, Any], source: Any) -> bytes:
        c2pa = c2pa_library()
        try:
            info = c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, None)
            with c2pa.Signer.from_info(info) as signer, c2pa.Context.from_dict(_OFFLINE) as context:
                builder = c2pa.Builder(dict(manifest), context)
                builder.set_no_embed()
                made: bytes = builder.sign(signer, FORMAT, source, io.BytesIO())
        except c2pa.C2paError as error:
            raise PublishError(
                f"{self.name} can't sign: {error}",
                "a C2PA certificate is an end entity's of X.509 v3, for digital signatures, with the extended key usage "
                f"emailProtection or documentSigning, and not self-signed: see {CERTIFICATE}",
            ) from error
        return made


def c2pa_library() -> Any:
    """The C2PA library. Raises: PublishError (the extra isn't installed)."""
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError) as error:
        raise PublishError(
            f"the C2PA library is not installed here: manifests can neither be signed nor verified ({error})",
            "pip install 'platewright[provenance]'",
        ) from error


def reader_context(anchors: bytes | None) -> Any:
    """What a manifest is read with: offline; `anchors` are PEM roots that may vouch for a signer. Raises: PublishError."""
    c2pa = c2pa_library()
    trust = {} if anchors is None else {"trust": {"user_anchors": anchors.decode("ascii", "replace")}}
    try:
        return c2pa.Context.from_dict({**_OFFLINE, **trust})
    except c2pa.C2paError as error:
        raise PublishError(f"the trusted certificates can't be used: {error}", "give them as PEM") from error


def signing_identity(environment: Mapping[str, str] = os.environ) -> SigningIdentity | None:
    """The identity that the environment names, tried once; None when it names none.

    Raises: PublishError (one file of the two, one that can't be read, a key that others can read or that doesn't belong to the
    certificate, a certificate that has ended, one that C2PA doesn't allow, the extra isn't installed).
    """
    certificate, key = environment.get(CERTIFICATE, ""), environment.get(KEY, "")
    if not certificate and not key:
        return None
    if not certificate or not key:
        there, absent = (CERTIFICATE, KEY) if certificate else (KEY, CERTIFICATE)
        raise PublishError(f"{there} is set and {absent} isn't", "signing needs both; unset it to publish without")
    c2pa_library()
    chain_bytes, key_bytes = _read(Path(certificate), CERTIFICATE), _read_key(Path(key))
    chain = _chain(chain_bytes, certificate)
    private = _private(key_bytes, key)
    own = chain[0]
    if _public_bytes(own.public_key()) != _public_bytes(private.public_key()):
        raise PublishError(
            f"the key {key} doesn't belong to the first certificate of {certificate}",
            "the chain begins with the signer's own certificate; give the key that it was made for",
        )
    _refuse_ended(chain, certificate)
    identity = SigningIdentity(
        certificates=chain_bytes,
        key=_pkcs8(private),
        algorithm=_algorithm(private, key),
        name=_name(own),
        until=min(one.not_valid_after_utc for one in chain),
    )
    identity._sign(_TRIAL, io.BytesIO(b"platewright"))
    return identity


_TRIAL = {
    "claim_generator_info": [{"name": "platewright"}],
    "title": "trial",
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia",
                    }
                ]
            },
        }
    ],
}
"""Signed once and thrown away: whatever the library has against a certificate, it says before the first version."""


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(f"{name}: {path} can't be read: {error.strerror}", "name a PEM file") from error


def _read_key(path: Path) -> bytes:
    with contextlib.suppress(OSError):  # told by reading it
        mode = path.stat().st_mode & 0o777
        if os.name == "posix" and mode & 0o077:
            raise PublishError(f"{KEY}: others can read or change {path} (mode {mode:03o})", f"chmod 600 {path}")
    return _read(path, KEY)


def _chain(data: bytes, path: str) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise PublishError(
            f"{path} holds no certificates: {error}", "give PEM, the signer's own certificate first"
        ) from error


def _private(data: bytes, path: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(data, password=None)
    except TypeError as error:
        raise PublishError(f"the key {path} has a password", "a worker has nobody to ask: give it without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PublishError(f"{path} holds no private key that can be read", "give PEM, PKCS #8") from error


def _public_bytes(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def _pkcs8(key: PrivateKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _algorithm(key: PrivateKeyTypes, path: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    raise PublishError(f"the key {path} is of a kind that C2PA doesn't sign with", "use EC P-256, RSA or Ed25519")


def _refuse_ended(chain: list[x509.Certificate], path: str) -> None:
    now = datetime.now(UTC)
    for certificate in chain:
        name = _name(certificate)
        if now > certificate.not_valid_after_utc:
            raise PublishError(
                f"the certificate {name} in {path} ended on {certificate.not_valid_after_utc:%Y-%m-%d}", "renew it"
            )
        if now < certificate.not_valid_before_utc:
            raise PublishError(
                f"the certificate {name} in {path} begins on {certificate.not_valid_before_utc:%Y-%m-%d}",
                "look at this machine's clock",
            )


def _name(certificate: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()

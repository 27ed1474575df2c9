"""Certificate chains for tests: a root that is made here, and what it vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Chain:
    """PEM files: the chain, its key, and the root alone."""

    certificates: Path
    key: Path
    root: Path

    def environment(self) -> dict[str, str]:
        return {"PLATEWRIGHT_SIGNING_CERT": str(self.certificates), "PLATEWRIGHT_SIGNING_KEY": str(self.key)}


def new_key(kind: str) -> CertificateIssuerPrivateKeyTypes:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1, "p384": ec.SECP384R1, "k256": ec.SECP256K1}[kind]())


def new_chain(
    folder: Path,
    *,
    kind: str = "p256",
    name: str = "Platewright farm",
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=30),
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
) -> Chain:
    """A root and a signer of it, written into `folder`."""
    folder.mkdir(parents=True)
    root_key, key = new_key("p256"), new_key(kind)
    root = _signed("Test root", None, root_key, root_key, NOW - timedelta(days=2), NOW + timedelta(days=60), None)
    own = _signed(name, root, key, root_key, begins, ends, usage)
    chain = Chain(folder / "chain.pem", folder / "key.pem", folder / "root.pem")
    pem = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in (own, root)]
    chain.certificates.write_bytes(b"".join(pem))
    chain.root.write_bytes(pem[1])
    write_key(chain.key, key)
    return chain


def write_key(path: Path, key: CertificateIssuerPrivateKeyTypes, password: bytes | None = None) -> None:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    path.chmod(0o600)


def _signed(
    name: str,
    issuer: x509.Certificate | None,
    key: CertificateIssuerPrivateKeyTypes,
    by: CertificateIssuerPrivateKeyTypes,
    begins: datetime,
    ends: datetime,
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    own = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A studio"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    is_root = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=is_root, crl_sign=is_root, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )  # fmt: skip
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(by, None if isinstance(by, ed25519.Ed25519PrivateKey) else hashes.SHA256())

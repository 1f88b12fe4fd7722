"""Certificates of the laboratory: one authority that clients trust, and what servers may show."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_DAY = datetime.timedelta(days=1)


def make_certificates(directory: Path, name: str) -> Path:
    """Write `authority.pem`, and `X.pem` with `X.key` for each X that a server may show.

    `good`, `elliptic` (a good one with an ECDSA key), `expired`, `wrong_name`, `untrusted` (by an
    authority that nobody knows).
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    (directory / "authority.pem").write_bytes(_pem(_issue("Laboratory", key, "Laboratory", key)))
    for title, subject, subject_key, issuer, age in (
        ("good", name, key, "Laboratory", 1),
        ("elliptic", name, elliptic, "Laboratory", 1),
        ("expired", name, key, "Laboratory", 400),
        ("wrong_name", "other.lab", key, "Laboratory", 1),
        ("untrusted", name, key, "Nobody", 1),
    ):
        certificate = _issue(subject, subject_key, issuer, key, age)
        (directory / f"{title}.pem").write_bytes(_pem(certificate))
        (directory / f"{title}.key").write_bytes(_private_pem(subject_key))
    return directory


def _issue(
    subject: str, key: PrivateKey, issuer: str, issuer_key: rsa.RSAPrivateKey, age_days: int = 1
) -> x509.Certificate:
    """Return a certificate that was issued `age_days` ago and is valid for a year."""
    start = datetime.datetime.now(datetime.UTC) - age_days * _DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(_called(subject))
        .issuer_name(_called(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + 365 * _DAY)
        .add_extension(x509.BasicConstraints(subject == issuer, None), critical=True)
    )
    if subject != issuer:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), False)
    return builder.sign(issuer_key, hashes.SHA256())


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

"""`python -m broker.certs`: a local authority, and certificates and tokens of its making, for trying mutual TLS out.

Where there is an authority already, of a company or a cluster, its certificates serve as well.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from broker.errors import BrokerError
from broker.security import hashed

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["CertsError", "main", "make_authority", "make_client", "make_server", "make_token"]

AUTHORITY = "ca"
AUTHORITY_DAYS = 3650
DAYS = 90
_CLOCKS_DIFFER = timedelta(minutes=5)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)

_EPILOG = """\
examples:
  python -m broker.certs authority                         certs/ca.pem and certs/ca.key
  python -m broker.certs server warehouse shop.example     certs/warehouse.pem and .key, for daemons at shop.example
  python -m broker.certs client janet                      certs/janet.pem and .key, for who calls as janet
  python -m broker.certs server warehouse shop.example --replace      a new one: running daemons take it up
  python -m broker.certs token henry                       certs/henry.token, for who shows a token instead

Whoever has ca.key can be anybody: keep it where the daemons are not. Give each program its own two files and ca.pem.
Exit status: 0 done, 1 refused (one line on stderr says why), 2 wrong usage.
"""


class CertsError(BrokerError):
    """A certificate that cannot be made."""


# ---- what it makes


def make_authority(directory: Path, *, days: int = AUTHORITY_DAYS) -> Path:
    """Makes an authority in a directory, which is made if need be; returns its certificate. Raises CertsError."""
    from cryptography import x509

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _new_key()
    name = _common_name(f"objectbroker authority {x509.random_serial_number() % 10**8:08}")
    built = _builder(name, name, key, days).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    built = built.add_extension(_key_usage(signs=True), critical=True)
    return _write(directory, AUTHORITY, key, _signed(built, key), replace=False)


def make_server(directory: Path, name: str, hosts: Sequence[str], *, days: int = DAYS, replace: bool = False) -> Path:
    """Makes a key and a certificate for daemons at these hosts (names and addresses); returns the certificate.

    Such a daemon shows it to others that it calls as well. Raises CertsError.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if not hosts:
        raise CertsError(f"a certificate for the daemons of {name!r} names the hosts that they are at: at least one")
    alternatives = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return _make(directory, name, days, replace, uses, alternatives)


def make_client(directory: Path, name: str, *, days: int = DAYS, replace: bool = False) -> Path:
    """Makes a key and a certificate for who calls as `name`; returns the certificate. Raises CertsError."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return _make(directory, name, days, replace, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))


def _make(directory: Path, name: str, days: int, replace: bool, *extensions: x509.ExtensionType) -> Path:
    from cryptography import x509

    _check_name(name)
    authority, authority_key = _authority(directory)
    key = _new_key()
    built = _builder(_common_name(name), authority.subject, key, days)
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    built = built.add_extension(_key_usage(signs=False), critical=True)
    for extension in extensions:
        built = built.add_extension(extension, critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    built = built.add_extension(identifier, critical=False)
    return _write(directory, name, key, _signed(built, authority_key), replace=replace)


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None or name == AUTHORITY:
        raise CertsError(f"{name!r} is no name here: letters, digits and . _ @ -, at most 64, and not {AUTHORITY!r}")


def _authority(directory: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate, key = directory / f"{AUTHORITY}.pem", directory / f"{AUTHORITY}.key"
    try:
        loaded = load_pem_private_key(key.read_bytes(), None)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except FileNotFoundError as error:
        raise CertsError(
            f"there is no authority in {directory} ({error.filename} is missing): `python -m broker.certs authority` "
            "makes one, -d says where"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise CertsError(f"the authority in {directory} cannot be read: {error}") from None
    if not isinstance(loaded, EllipticCurvePrivateKey):
        raise CertsError(f"{key} was not made by this program")
    return found, loaded


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _common_name(name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise CertsError(f"{host!r} is neither the name of a host in ASCII nor an address") from None


def _builder(subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _write(
    directory: Path, name: str, key: EllipticCurvePrivateKey, certificate: x509.Certificate, *, replace: bool
) -> Path:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = directory / f"{name}.pem"
    files = ((directory / f"{name}.key", private, 0o600), (shown, certificate.public_bytes(Encoding.PEM), 0o644))
    _put(files, replace=replace and name != AUTHORITY)
    return shown


def _put(files: Iterable[tuple[Path, bytes, int]], *, replace: bool) -> None:
    """Writes files; each is there as a whole or not at all."""
    there = [str(path) for path, _, _ in files if path.exists()]
    if there and not replace:
        raise CertsError(
            f"{' and '.join(there)} {'are' if len(there) > 1 else 'is'} there already: --replace makes new ones, but "
            "for an authority, whose certificates nobody would believe any more"
        )
    for path, content, mode in files:
        written = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
            written.replace(path)
        except OSError as error:
            raise CertsError(f"{path} cannot be written: {error.strerror}") from None


def make_token(directory: Path, name: str, *, replace: bool = False) -> tuple[Path, str]:
    """Makes a token for who calls as `name`; returns its file, and how it stands in the file of accepted tokens.

    Raises CertsError.
    """
    _check_name(name)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    file = directory / f"{name}.token"
    _put(((file, f"{token}\n".encode(), 0o600),), replace=replace)
    return file, hashed(token)


# ---- the command line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status; argparse itself exits with 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        made = arguments.command(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("cryptography"):
            raise
        print("broker-certs: this needs cryptography: pip install 'objectbroker[certs]'", file=sys.stderr)
        return 1
    except (CertsError, OSError) as error:
        print(f"broker-certs: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(*made, sep="\n")
    return 0


def _authority_command(arguments: argparse.Namespace) -> list[str]:
    return _both(make_authority(arguments.directory, days=arguments.days or AUTHORITY_DAYS))


def _server_command(arguments: argparse.Namespace) -> list[str]:
    days = arguments.days or DAYS
    return _both(make_server(arguments.directory, arguments.name, arguments.host, days=days, replace=arguments.replace))


def _client_command(arguments: argparse.Namespace) -> list[str]:
    days = arguments.days or DAYS
    return _both(make_client(arguments.directory, arguments.name, days=days, replace=arguments.replace))


def _token_command(arguments: argparse.Namespace) -> list[str]:
    file, known_as = make_token(arguments.directory, arguments.name, replace=arguments.replace)
    return [str(file), f'"{arguments.name}" = "{known_as}"']


def _both(certificate: Path) -> list[str]:
    return [str(certificate), str(certificate.with_suffix(".key"))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broker-certs",
        description="Makes an authority of your own, and certificates by which daemons and callers know each other.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[..., list[str]], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=run)
        added.add_argument(
            "-d", "--directory", type=Path, default=Path("certs"), help="where the files are (default: certs)"
        )
        return added

    authority = command("authority", _authority_command, "Makes an authority: ca.pem, for everybody, and ca.key.")
    server = command("server", _server_command, "Makes the certificate of daemons, or of a name server.")
    client = command("client", _client_command, "Makes the certificate of who calls.")
    token = command("token", _token_command, "Makes a token, and the line for the file of those that are accepted.")
    for dated in (authority, server, client):
        dated.add_argument("--days", type=_days, help=f"how long it is valid (default {DAYS}, an authority 10 years)")
    for made in (server, client, token):
        made.add_argument("name", metavar="NAME", help="the identity, and the name of the files")
        made.add_argument("--replace", action="store_true", help="make new files in place of those that are there")
    server.add_argument("host", metavar="HOST", nargs="+", help="the names and addresses that callers reach it by")
    return parser


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 36500):
        raise argparse.ArgumentTypeError(f"days are a whole number from 1 to 36500, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

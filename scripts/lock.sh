#!/usr/bin/env bash
# Writes requirements.lock (what runs) and requirements-dev.lock (that and the tools), with hashes, for Python 3.11-3.13.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)
compile() { # output, further arguments
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --no-header --output-file "$1" pyproject.toml "${@:2}"
}
compile requirements.lock
compile requirements-dev.lock --extra dev --constraint requirements.lock

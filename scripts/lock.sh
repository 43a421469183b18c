#!/usr/bin/env bash
# Writes requirements.lock (what runs), requirements-dev.lock (that and the tools) and requirements-uv.lock (the installer)
# with hashes, for Python 3.11 to 3.13. What is locked stays as far as pyproject.toml allows it; --upgrade takes the newest.
set -euo pipefail
cd "$(dirname "$0")/.."
how=("$@")
uv=$(command -v uv || echo .venv/bin/uv)
compile() { # output, then what to resolve
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --no-header "${how[@]}" --output-file "$@"
}
compile requirements.lock pyproject.toml
compile requirements-dev.lock pyproject.toml --extra dev --constraint requirements.lock
echo uv | compile requirements-uv.lock -

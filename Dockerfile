# The image of every container of ours; the command says what a container does: `airflow scheduler`, `skewless ...`.
#
#   docker build -t skewless .                                                 or podman, or buildah
#   docker build -t skewless --build-arg BASE=debian:12.12-slim@sha256:... .   the same base each time
#
# Behind a proxy, or with a mirror of the package index. None of these stays in the image or in its history:
#   --build-arg HTTPS_PROXY=http://proxy.example.com:3128   HTTP_PROXY and NO_PROXY, too: every builder knows them
#   --secret id=ca,src=bundle.pem                           certificates to trust in place of Debian's
#   --secret id=installer,src=settings                      lines that a shell reads: PIP_INDEX_URL=... (for uv itself),
#                                                           UV_DEFAULT_INDEX=... (for everything else)
ARG BASE=debian:12.12-slim

# The machine that everything runs on: an interpreter, the certificates of the world, a process 1 that passes signals on.
FROM ${BASE} AS machine
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/* /var/log/*

# What is installed from the package index, into a virtual environment; uv stays behind with this stage.
FROM machine AS build
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# Compiled now: with a read-only root every process of Airflow would compile thousands of modules again. Unchecked,
# since files of an image do not change, and a builder that sets all their times to one would make checks fail.
ENV PIP_NO_CACHE_DIR=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1
COPY requirements-uv.lock requirements.lock /build/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=secret,id=installer,target=/run/secrets/installer \
    set -eu; \
    if [ -f /run/secrets/installer ]; then set -a; . /run/secrets/installer; set +a; fi; \
    python3 -m venv /opt/uv; \
    /opt/uv/bin/pip install --quiet --require-hashes --requirement /build/requirements-uv.lock; \
    python3 -m venv /opt/skewless/.venv; \
    /opt/uv/bin/uv pip install --quiet --python /opt/skewless/.venv/bin/python \
        --require-hashes --requirement /build/requirements.lock; \
    rm -f /opt/skewless/.venv/.lock

# This project as it will lie in the image, under /image: metadata beside the packages, sources, bytecode, dbt's manifest.
WORKDIR /image/opt/skewless
COPY LICENSE README.md pyproject.toml ./
COPY dags dags
COPY dbt_project dbt_project
COPY features features
COPY plugins plugins
# The project is installed as a link to /opt/skewless, which leads here for as long as this takes. dbt needs no database.
RUN set -eu; \
    chmod --recursive u=rwX,go=rX .; \
    for part in *; do ln -s "/image/opt/skewless/$part" /opt/skewless/; done; \
    /opt/uv/bin/uv pip install --quiet --python /opt/skewless/.venv/bin/python --prefix /image/opt/skewless/.venv \
        --no-deps --no-build-isolation --editable /opt/skewless; \
    rm -f .venv/.lock; \
    python3 -m compileall -q --invalidation-mode unchecked-hash features plugins; \
    PATH=/opt/skewless/.venv/bin:$PATH SKEWLESS_HOME=/opt/skewless HOME=/tmp PYTHONDONTWRITEBYTECODE=1 \
        dbt parse --quiet --project-dir dbt_project --profiles-dir dbt_project --target-path /tmp/target --log-path /tmp; \
    install -D --mode 0644 /tmp/target/manifest.json manifest/manifest.json

FROM machine
ENV PATH=/opt/skewless/.venv/bin:$PATH \
    LANG=C.UTF-8 \
    # Bytecode is in the image, beside its source.
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX= \
    PYTHONUNBUFFERED=1 \
    SKEWLESS_HOME=/opt/skewless \
    SKEWLESS_MANIFEST=/opt/skewless/manifest/manifest.json \
    # Whatever is written goes here or to /tmp.
    SKEWLESS_RUN_DIR=/var/lib/skewless \
    HOME=/var/lib/skewless \
    AIRFLOW_HOME=/var/lib/skewless/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/skewless/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/skewless/plugins \
    AIRFLOW__COSMOS__CACHE_DIR=/var/lib/skewless/cache/cosmos \
    AIRFLOW__COSMOS__ENABLE_MEMORY_OPTIMISED_IMPORTS=True \
    AIRFLOW__COSMOS__ENABLE_TELEMETRY=False \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MPLCONFIGDIR=/var/lib/skewless/cache/matplotlib \
    OMP_WAIT_POLICY=PASSIVE

# Group 0 may do what the user may, for platforms that choose the user id themselves.
RUN useradd --uid 50000 --gid 0 --home-dir /var/lib/skewless --no-create-home --shell /usr/sbin/nologin skewless \
    && rm -rf /var/log/* \
    # A new volume gets the owner of the folder that it is put over.
    && install --directory --owner skewless --group root --mode 0775 \
        /var/lib/skewless /var/lib/dbt /var/lib/mlflow /var/log/airflow
# In this order, so that a change of ours leaves the largest layer as it is.
COPY --from=build /opt/skewless/.venv /opt/skewless/.venv
COPY --from=build /image/ /
# What is needed and missing shows here, and not when it runs.
RUN set -eu; \
    export AIRFLOW_HOME=/tmp/build/airflow HOME=/tmp/build SKEWLESS_RUN_DIR=/tmp/build; \
    tini --version >/dev/null; \
    skewless --help >/dev/null; \
    airflow version >/dev/null; \
    python -c 'import ssl; assert ssl.create_default_context().cert_store_stats()["x509_ca"]'; \
    rm -rf /tmp/build

# The commit goes into every trained model's provenance: --build-arg COMMIT="$(git rev-parse HEAD)"
ARG COMMIT=unknown
ARG VERSION=unknown
ENV SKEWLESS_GIT_COMMIT=$COMMIT
LABEL org.opencontainers.image.title=Skewless \
    org.opencontainers.image.description="Features defined once in dbt, materialised, watched and retrained by Airflow." \
    org.opencontainers.image.licenses=Apache-2.0 \
    org.opencontainers.image.revision=$COMMIT \
    org.opencontainers.image.version=$VERSION

VOLUME /var/lib/skewless
WORKDIR /var/lib/skewless
USER 50000:0
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["skewless", "--help"]

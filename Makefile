# `make help` lists what there is. Everything is written to .venv/ and .run/ in this folder, and nowhere else.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
MODEL ?= churn
EVERY ?= 30
PORT ?= 8000
JOBS ?= 2
DOCKER ?= docker
RUN := $(CURDIR)/.run
BIN := $(CURDIR)/.venv/bin
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
LONG_SUITES := chain drills deployment operations upgrades pages features benchmarks

export PYTHONPYCACHEPREFIX := $(RUN)/cache/python
# Or each process would compile again all that it imports.
export PYTHONDONTWRITEBYTECODE :=
export UV_CACHE_DIR ?= $(RUN)/cache/uv
export PIP_CACHE_DIR ?= $(RUN)/cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

##@ Start here
.PHONY: demo
demo: install ## Load a year of real events, run the Dags through a real scheduler, show what came out
	$(BIN)/skewless demo

.PHONY: test
test: install-dev ## Test a bit of everything: units, dbt, one chain through a real scheduler [JOBS=2 at a time]
	$(PYTEST) --suite short $(PYTEST_ARGS)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
		/^[a-zA-Z_-]+:.*## / {gsub(/[$$][$$]/, "$$", $$2); printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Airflow and MLflow
.PHONY: up
up: install ## Start Airflow and MLflow on 127.0.0.1 and keep them running (AIRFLOW_PORT=8080 MLFLOW_PORT=5000)
	exec $(BIN)/skewless up

.PHONY: down
down: ## Stop Airflow, MLflow and the embedded PostgreSQL
	@if [ -x $(BIN)/skewless ]; then $(BIN)/skewless down; fi

.PHONY: serve
serve: warehouse manifest ## Run the example service on 127.0.0.1 [PORT=8000 AT=2013-12-24T01:00:00]
	exec $(BIN)/skewless serve --port $(PORT) $(if $(AT),--at "$(AT)")

##@ Warehouse
.PHONY: warehouse
warehouse: install ## Start PostgreSQL and Redis (unless PGHOST and REDIS_URL are set), create or upgrade the tables
	$(BIN)/skewless start-warehouse

.PHONY: warehouse-url
warehouse-url: install ## Print the warehouse's URL: psql "$$(make -s warehouse-url)"
	@$(BIN)/skewless warehouse-url

.PHONY: psql
psql: warehouse ## Open a SQL shell on the warehouse
	@exec $(BIN)/skewless psql

.PHONY: env
env: install ## Print export lines for your shell: eval "$$(make -s env)"
	@$(BIN)/skewless env

##@ Operations
.PHONY: backup
backup: install ## Back up the warehouse, Airflow's and MLflow's databases and the models' files [TO=backups/<now>]
	@$(BIN)/skewless backup $(if $(TO),--to "$(TO)")

.PHONY: restore
restore: install ## Restore a backup into databases that are empty, or replace them: FROM=<folder> [REPLACE=1]
	@$(BIN)/skewless restore --from "$(FROM)" $(if $(REPLACE),--replace)

##@ Features
.PHONY: rollback
rollback: warehouse manifest ## Serve an earlier publication again: AS_OF=2013-07-02T00:00:00 [VIEW=user_session_features]
	@$(BIN)/skewless rollback --as-of "$(AS_OF)" $(if $(VIEW),--view "$(VIEW)")

.PHONY: push-online
push-online: warehouse manifest ## Push what is live to Redis again, as after it lost its memory [VIEW=user_session_features]
	@$(BIN)/skewless push-online $(if $(VIEW),--view "$(VIEW)") $(if $(TAKE_OVER),--take-over)

.PHONY: reproduce
reproduce: warehouse ## Rebuild a training extract, byte for byte: ID=<extract_id of training.extracts>
	@$(BIN)/skewless reproduce "$(ID)"

##@ Retraining
.PHONY: backtest-decay
backtest-decay: warehouse manifest ## How fast a model ages, and how old it may become [MODEL=churn AS_OF=2013-12-31T00:00:00 PLOT=decay.svg]
	@$(BIN)/skewless backtest-decay --model $(MODEL) $(if $(AS_OF),--as-of "$(AS_OF)") $(if $(PLOT),--output "$(PLOT)")

.PHONY: backtest-policy
backtest-policy: warehouse manifest ## Replay the policy beside never, always, periodic [MODEL=churn AS_OF=... EVERY=30 PLOT=policy.svg]
	@$(BIN)/skewless backtest-policy --model $(MODEL) --every $(EVERY) $(if $(AS_OF),--as-of "$(AS_OF)") $(if $(PLOT),--output "$(PLOT)")

.PHONY: rollback-model
rollback-model: warehouse manifest ## Make the champion before this one champion again [MODEL=churn VERSION=2]
	@$(BIN)/skewless rollback-model --model $(MODEL) $(if $(VERSION),--to "$(VERSION)")

##@ ML Test Score
.PHONY: scorecard
scorecard: warehouse manifest ## The 28 tests of the ML Test Score, and the evidence of each [MODEL=churn AT=2013-12-31T00:00:00]
	@$(BIN)/skewless scorecard --model $(MODEL) $(if $(AT),--at "$(AT)")

.PHONY: record-evidence
record-evidence: warehouse manifest ## Write down what CI or a person saw of a test: TEST=infra_2 EVIDENCE="..." [HOW=by-hand AT=... DAYS=30 FAILED=1]
	@$(BIN)/skewless record-evidence --model $(MODEL) --test "$(TEST)" --how $(or $(HOW),by-hand) --evidence "$${EVIDENCE:-}" \
		$(if $(AT),--seen-at "$(AT)") $(if $(DAYS),--valid-days "$(DAYS)") $(if $(FAILED),--failed)

##@ dbt
.PHONY: manifest
manifest: install ## Parse the dbt project; the Dags are generated from what it finds
	@eval "$$($(BIN)/skewless env)"
	$(BIN)/dbt parse --quiet

##@ In containers
.PHONY: secrets
secrets: ## Write .env for docker compose, with a strong secret wherever there is none yet
	@$(PYTHON) scripts/write_env.py

.PHONY: demo-compose
demo-compose: secrets ## The demo in containers: docker compose up --wait, then the same story
	# 2013 is replayed by hand: an hourly run of today would only find the source stale.
	export SKEWLESS_MATERIALIZE_CRON="0 0 29 2 *" SKEWLESS_DECAY_CRON="0 0 29 2 *"
	docker compose up --wait
	docker compose run --rm loader skewless load-sample
	docker compose run --rm cli skewless demo --deployed

##@ The image
.PHONY: image
image: ## Build the image skewless:VERSION with Docker [BASE=debian:12.12-slim@sha256:... DOCKER=podman]
	version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
	$(DOCKER) build $(if $(BASE),--build-arg BASE="$(BASE)") --build-arg VERSION="$$version" \
		--build-arg COMMIT="$$(git rev-parse HEAD)" --build-arg SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)" \
		--tag "skewless:$$version" .

.PHONY: image-check
image-check: ## Build the image without Docker in a clean root, run it read-only, look inside (needs root on Debian or Ubuntu)
	$(PYTHON) scripts/image_check.py

##@ Tests
.PHONY: test-fast
test-fast: install-dev ## Run what starts no server and no browser, and builds nothing with dbt, in a minute
	$(PYTEST) --suite fast $(PYTEST_ARGS)

.PHONY: test-all
test-all: ## Run every test there is
	$(MAKE) test || failed=1
	$(MAKE) test-long
	exit $${failed:-0}

.PHONY: test-long
test-long: install-dev ## Run the long suites only: what `make test` leaves out
	$(PYTEST) --suite long $(PYTEST_ARGS)

.PHONY: $(LONG_SUITES:%=test-%)
test-chain: ## Close the gate, make the pipeline sick, roll back, through a real scheduler
test-drills: ## Kill services, fill disks, set clocks while Dags run
test-deployment: ## Start all services of docker-compose.yml, and run the demo in them
test-operations: ## Back up, restore, backfill, watch a running Airflow
test-upgrades: ## Bring a warehouse of each earlier version up to date
test-pages: ## Look at every page of Feature health in each theme and width
test-features: ## Build the whole sample at once, killed, in any order
test-benchmarks: ## See whether the benchmarks measure what they say
$(LONG_SUITES:%=test-%): test-%: install-dev
	$(PYTEST) --suite $* $(PYTEST_ARGS)

.PHONY: test-times
test-times: install-dev ## Show what took the time in the last run, by file and by what it waited for
	$(BIN)/python -m tests.times

.PHONY: mutants
mutants: install-dev ## Change operators and constants at random, one at a time, and see whether a test fails [COUNT=20 SEED=1]
	$(BIN)/python -m tests.mutants --count $(or $(COUNT),20) --seed $(or $(SEED),1)

##@ Development
.PHONY: install
install: .venv/installed ## Create .venv with everything that runs, pinned by hash

.PHONY: install-dev
install-dev: .venv/installed-dev ## The same with what tests and lint need

.venv/installed: requirements.lock pyproject.toml scripts/install.sh
	@PYTHON=$(PYTHON) scripts/install.sh requirements.lock
	touch $@

.venv/installed-dev: requirements-dev.lock pyproject.toml scripts/install.sh
	@PYTHON=$(PYTHON) scripts/install.sh requirements-dev.lock
	touch $@ .venv/installed

.PHONY: bench-features
bench-features: install-dev ## How fast features are computed, found and served, beside DuckDB, Feast and pandas (BENCH_ARGS=--help)
	$(BIN)/python -m tests.benchmarks.bench_features $(BENCH_ARGS)

.PHONY: bench-drift
bench-drift: install-dev ## False alarms, delays and cost of the drift monitor, beside Evidently and NannyML (BENCH_ARGS=--help)
	$(BIN)/python -m tests.benchmarks.drift $(BENCH_ARGS)

.PHONY: bench-serving
bench-serving: install-dev ## How fast features are read from Redis and PostgreSQL, beside Feast (BENCH_ARGS=--help)
	$(BIN)/python -m tests.benchmarks.bench_serving $(BENCH_ARGS)

.PHONY: bench-health
bench-health: install-dev ## What the pages of Feature health cost over a long history, and over one twice as long (BENCH_ARGS=--help)
	$(BIN)/python -m tests.benchmarks.bench_health $(BENCH_ARGS)

.PHONY: lint
lint: install-dev ## ruff, mypy, sqlfluff and dbt parse, whatever the others find [JOBS=2 at a time]
	@$(MAKE) --jobs $(JOBS) --keep-going --output-sync=target --no-print-directory \
		lint-types manifest lint-python lint-format lint-sql

.PHONY: lint-types
lint-types: install-dev
	$(BIN)/mypy

.PHONY: lint-python
lint-python: install-dev
	$(BIN)/ruff check .

.PHONY: lint-format
lint-format: install-dev
	$(BIN)/ruff format --check .

.PHONY: lint-sql
lint-sql: install-dev
	$(BIN)/sqlfluff lint dbt_project/models --disable-progress-bar

.PHONY: lock
lock: ## Resolve the dependencies again, for Python 3.11 to 3.13
	scripts/lock.sh

##@ Supply chain
.PHONY: audit
audit: licences sbom ## Licences, bill of materials, and known vulnerabilities, which needs the network (PIP_AUDIT_VULNERABILITY_SERVICE=osv)
	$(BIN)/python -m scripts.audit

.PHONY: licences
licences: install-dev ## The licence of every package that runs; fails for one that pyproject.toml does not allow
	$(BIN)/python -m scripts.licences

.PHONY: sbom
sbom: install-dev ## Write .run/sbom.json: every package that runs, with licence and hashes (CycloneDX)
	$(BIN)/python -m scripts.sbom

.PHONY: update
update: install-dev ## Lock the newest versions that pyproject.toml allows, install them, show what changed, run the tests
	@before=$$(mktemp -d)
	trap 'rm -rf "$$before"' EXIT
	cp requirements*.lock "$$before"
	scripts/lock.sh --upgrade
	$(BIN)/python -m scripts.lock_changes "$$before"
	$(MAKE) licences
	$(MAKE) test-all

##@ Cleaning up
.PHONY: clean
clean: down ## Delete .run/: the embedded warehouse and all that was computed (.venv stays)
	rm -rf $(RUN)

# `make` lists the targets. Anything longer than a line or two lives in scripts/.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PINS := $(wildcard requirements/*) $(wildcard libs/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[36m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): $(PINS) scripts/install
	@VENV=$(VENV) scripts/install
	@touch $@

.PHONY: install
install: $(STAMP) ## Make .venv from the pins (again only when they change); EXTRAS=torch adds PyTorch

.PHONY: run
run: $(STAMP) ## Run the whole fleet here; ARGS="--port-base 9080" to move its ports
	@$(BIN)/fleet run $(ARGS)

.PHONY: test
test: $(STAMP) ## Run the tests CI runs; PKG=data for one package, COVERAGE=1 to hold coverage to its gates
	@COVERAGE=$(COVERAGE) scripts/test $(PKG)

.PHONY: check
check: $(STAMP) ## Format, lint, imports, dependencies, types, changelogs: all but the tests
	@scripts/check

.PHONY: fmt
fmt: $(STAMP) ## Format the code and fix what can be fixed safely
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

.PHONY: lint
lint: $(STAMP) ## Lint and check who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

.PHONY: typecheck
typecheck: $(STAMP) ## mypy --strict over source and tests
	@scripts/typecheck

.PHONY: cov
cov: $(STAMP) ## The lines the last `make test COVERAGE=1` did not reach; htmlcov/index.html for reading
	@$(BIN)/coverage html --quiet && $(BIN)/coverage report

.PHONY: e2e
e2e: $(STAMP) ## Prove the fleet on the current kube context: both eras, kills, rolls, scaling; skips without a cluster
	@$(BIN)/python scripts/e2e.py

.PHONY: chaos
chaos: $(STAMP) ## Three replicas of everything, one killed every second, 10,000 calls in each protocol era
	@$(BIN)/python -m pytest -q -m chaos tests

.PHONY: load
load: $(STAMP) ## Mixed calls for two minutes and 2,000 rounds of noise; LOAD_SECONDS=600 FUZZ_EXAMPLES=20000 for longer
	@$(BIN)/python -m pytest -q -m load tests services/gateway/tests/fuzz

.PHONY: bench
bench: $(STAMP) ## Run the benchmarks and rewrite the tables in bench/README.md
	@$(BIN)/python -m bench --write

.PHONY: docs
docs: $(STAMP) ## Rewrite the generated tables: docs/errors.md, settings.md, tools.md
	@$(BIN)/python scripts/reference_docs.py --write

.PHONY: render
render: $(STAMP) ## Make rules, alerts, dashboards, HPAs and ScaledObjects from the policy
	@$(BIN)/python -m fleet_autoscale render

.PHONY: lock
lock: $(STAMP) ## Resolve the packages' ranges again into requirements/constraints.txt
	@scripts/lock

.PHONY: images
images: ## Build fleet/gateway, fleet/data, fleet/devops and fleet/aiml; PKG=data for one
	@scripts/images $(PKG)

.PHONY: up
up: $(STAMP) ## Run the fleet in containers with PostgreSQL, Redis, Qdrant and Prometheus; `scripts/up down` ends it
	@scripts/up

.PHONY: deploy
deploy: $(STAMP) ## Deploy to the current kube context, PostgreSQL included
	@scripts/deploy

.PHONY: release
release: $(STAMP) ## Release one package: make release PKG=data VERSION=0.2.0
	@scripts/release "$(PKG)" "$(VERSION)"

.PHONY: clean
clean: ## Remove caches and build results; .venv and .fleet stay
	@rm -rf .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find libs services tools tests -name __pycache__ -prune -exec rm -rf {} +

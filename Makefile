# Tellwire's commands. `make help` lists them; each works on a machine with Python 3.11+, venv and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# One pip for all: what is locked is what is installed, and every file is checked against its hash.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

SERVED  := tests/api tests/contract tests/integration
BY_FILE := --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run demo serve test soak pgbouncer check mypy pyright docs format bench lock clean

help: ## List these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-8s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## Start everything, send demo messages for two tenants and stay up until Ctrl-C
	@$(BIN)/tellwire demo --stay

demo: $(VENV)/.runtime ## Send a few hundred messages for two tenants, follow them to read, print a report
	@$(BIN)/tellwire demo

serve: $(VENV)/.runtime ## Run API, workers and embedded services without demo data
	@$(BIN)/tellwire serve

check: $(VENV)/.dev ## Format, lint, types, import contracts and the tests that need no server
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory --output-sync --jobs=2 mypy pyright
	@$(BIN)/pytest -q -n 2 tests/unit tests/architecture

mypy pyright: $(VENV)/.dev
	@$(BIN)/$@

# Most tests wait more than they compute, so that three fill two cores. Whole installations need a core
# each, and those that watch the pace of real processes come last and alone.
test: $(VENV)/.dev pgbouncer ## Run the tests on real PostgreSQL, Redis and processes, or what T=tests/unit names
ifdef T
	@$(BIN)/pytest $(T)
else
	@$(BIN)/pytest -q -n 3 $(BY_FILE) -m "not soak" $(SERVED)
	@$(BIN)/pytest -q -n 2 $(BY_FILE) -m "not soak and not pace" tests/e2e
	@$(BIN)/pytest -q -m "pace and not soak" tests/e2e
endif

soak: $(VENV)/.dev ## Run what takes long: kills, outages, floods, pace at high rates
	@$(BIN)/pytest -q -n 2 $(BY_FILE) -m "soak and not pace" $(SERVED) tests/e2e
	@$(BIN)/pytest -q -m "soak and pace" tests/e2e

# No Python package carries PgBouncer: root gets it from Debian, others are told what is left out.
pgbouncer:
	@PATH="$$PATH:/usr/sbin"; command -v pgbouncer >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing PgBouncer ..." && \
		apt-get -qq update >/dev/null && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends pgbouncer >/dev/null; \
	} || echo "PgBouncer is missing: its tests are skipped"

bench: $(VENV)/.dev ## Measure against named rivals side by side (all, or B=name); writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(B)

docs: $(VENV)/.dev ## Write anew what the documents repeat from the code: reference, settings, errors
	@$(BIN)/python docs/build_reference.py
	@$(BIN)/python -m tellwire.error_reference > docs/errors.md

format: $(VENV)/.dev ## Format and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(VENV)/.dev ## Resolve requirements anew, with hashes and without index addresses
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml requirements/build.in -o requirements/runtime.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml requirements/build.in requirements/dev.in \
		-c requirements/runtime.txt -o requirements/dev.txt

clean: ## Remove the environment and the embedded services' data
	@rm -rf $(VENV) .tellwire

$(VENV)/bin/python:
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python requirements/runtime.txt pyproject.toml
	@echo "Installing the locked dependencies ..."
	@test -e $(VENV)/.dev || $(INSTALL) -r requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python requirements/dev.txt pyproject.toml
	@echo "Installing the locked dependencies for development ..."
	@$(INSTALL) -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.runtime $@

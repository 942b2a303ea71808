# The commands of the project. Each installs what it lacks first; `make help` lists them.
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
UV := .venv/bin/uv
LOCAL := $(PYTHON) -m postern_local
LOCK := pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --allow-unsafe
# `make run ONCE=1` stops after the delivered message.
ONCE ?=
SERVICE ?=
# Tests on real servers want directory servers too, which `make run` does without.
PACKAGES =
test test-servers soak bench: PACKAGES = tests
export PYTHONDONTWRITEBYTECODE ?= 1

.DEFAULT_GOAL := help
.PHONY: help bootstrap run up down status logs test test-unit test-servers soak bench spec check docs fmt lock

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bootstrap: ## install what is missing: Debian packages, .venv
	@POSTERN_BOOTSTRAP=$(PACKAGES) sh deploy/local/bootstrap.sh

run: bootstrap ## start everything and play the guided setup; Ctrl-C stops it (ONCE=1: stop after the message)
	@$(LOCAL) run $(if $(filter-out 0 no false,$(ONCE)),--once)

up: bootstrap ## start the stack in the background; returns when it is ready and .local/env is written
	@$(LOCAL) up

down: bootstrap ## stop the stack that runs in the background
	@$(LOCAL) down

status: bootstrap ## what runs, on which port, and whether it is ready
	@$(LOCAL) status

logs: bootstrap ## the logs, as they grow (SERVICE=edge: of one part)
	@$(LOCAL) logs -f $(SERVICE)

test: check test-unit test-servers ## every check and test, with small counts

test-unit: bootstrap ## the tests that need no server
	$(PYTEST) -q libs services deploy/local -m "not soak and not bench"

test-servers: bootstrap ## integration, end to end, contract and chaos tests on real servers
	$(PYTEST) -q tests -m "not soak and not bench" -n 2 --dist loadfile

soak: bootstrap ## the fault, fuzz and load tests with their full counts, at most 60 minutes; goes on where it was stopped
	timeout --foreground --signal INT 3600 $(PYTEST) -q -s -p tools.soak_resume libs services tests -m soak

bench: bootstrap ## the benchmarks, beside the peers in the same run
	$(PYTHON) -m tests.bench

spec: bootstrap ## the rules of the specification with the tests that prove them
	@$(PYTHON) -m tools.spec

check: bootstrap ## formatting, lint, types, import contracts, conventions
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m tools.check

docs: bootstrap ## write the reference pages that follow from the code
	@$(PYTHON) -m tools.docs

fmt: bootstrap ## format, and mend what the linter can
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: bootstrap ## pin the dependencies of requirements/*.in anew (needs uv)
	$(UV) $(LOCK) requirements/runtime.in --output-file constraints.txt
	$(UV) $(LOCK) requirements/build.in --output-file requirements/build.txt
	$(UV) $(LOCK) requirements/dev.in --constraint constraints.txt --output-file constraints-dev.txt

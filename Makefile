# Everything that a person does with this tree. `make help` lists it.
#
# It needs Linux, make and a Python (PYTHON=...) with the venv module, writes to .venv, node_modules and the
# caches of the tools, and installs nothing that is not locked with hashes in requirements/ or package-lock.json.

PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# Without bytecode each of the hundreds of brokers that tests start would compile the broker anew: a third of its start.
unexport PYTHONDONTWRITEBYTECODE

# The unit tests alone must cover this much of the packages where a missed branch costs most, in percent.
COVERED := broker.consent broker.oauth broker.policy broker.storage broker.tokens
COVERAGE_FLOOR := 95

# Whole files to a worker: fixtures of a file are made once. Two cores are what CI has, so that two workers keep them
# busy with unit tests; those with real servers wait most of their time, and four of them take two thirds of it.
PYTEST = $(BIN)/pytest -n $(1) --dist loadfile $(if $(MUST_RUN_ALL),-p tests.no_skips)

# CI=true or REQUIRE_ALL=1: a test that this machine cannot run is a failure and not a skip.
MUST_RUN_ALL := $(filter 1 true,$(REQUIRE_ALL) $(CI))

# The image: from what it is made (a digest in production), its Python, and what its labels say.
BASE ?= docker.io/library/python:$(IMAGE_PYTHON)-slim
IMAGE_PYTHON := 3.13
ENGINE ?= $(firstword $(foreach name,podman docker,$(if $(shell command -v $(name)),$(name))))
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' broker/__init__.py)
IMAGE ?= token-broker:$(VERSION)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
CREATED ?= $(shell date --utc +%Y-%m-%dT%H:%M:%SZ)
SOURCE ?=

# Lock files name no registry: what they lock is known by its hashes, wherever it comes from.
LOCKING := pip-tools==7.6.2
PIP_COMPILE = PIP_FIND_LINKS= ../.venv/lock/bin/pip-compile --quiet --generate-hashes --no-header --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --annotation-style=line \
	$(if $(filter 1,$(UPGRADE)),--upgrade)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo bench test check test-crash test-plain-path test-deploy image sbom docs format lint types imports unit bigger-tests node lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

install: .venv/run.stamp  ## install the broker into .venv
	@echo "Ready: $(CURDIR)/$(BIN)/token-broker"

demo: .venv/run.stamp  ## see the broker work beside a sandbox server; ONCE=1: one pass, then end
	@$(BIN)/token-broker demo $(if $(filter 1,$(ONCE)),--once)

bench: .venv/run.stamp  ## measure a broker beside nginx, and end with a table of goals; QUICK=1: in seconds
	@$(BIN)/python -m bench.tokens $(if $(filter 1,$(QUICK)),--quick) $(if $(JSON),--json $(JSON:.json=)-tokens.json)
	@echo
	@$(BIN)/python -m bench.footprint $(if $(filter 1,$(QUICK)),--quick) $(if $(JSON),--json $(JSON:.json=)-footprint.json)
	@echo
	@$(BIN)/python -m bench.scrape
	@echo
	@$(BIN)/python -m bench.egress $(if $(filter 1,$(QUICK)),--quick) $(if $(JSON),--json $(JSON:.json=)-egress.json)
	@echo
	@$(BIN)/python -m bench.goals $(if $(filter 1,$(QUICK)),--quick) $(if $(JSON),--json $(JSON)) \
		$(if $(PLOT),--plot $(PLOT)) $(if $(INTERPRETER),--python $(INTERPRETER))

test: check bigger-tests  ## run every test; REQUIRE_ALL=1: a test that cannot run here is a failure

check: format lint types imports unit  ## run the fast half of the tests: style, types, imports, unit tests

test-crash: .venv/dev.stamp  ## kill a broker, and fail its disk, at every moment of a refresh: 15 minutes
	ALL_MOMENTS=1 $(BIN)/pytest -n 2 --dist load -p tests.no_skips tests/crash tests/unit/storage/test_crashes.py

test-plain-path: .venv/dev.stamp  ## run the tests of the daemon with brokers that have no fast path: 10 minutes
	FAST_PATH=0 $(call PYTEST,4) tests/daemon

test-deploy: .venv/dev.stamp  ## run what deploy/ holds for real: the image, a pod, a booted systemd; as root, minutes
	$(call PYTEST,2) tests/deploy tests/machines

# In an environment of its own: what makes the site is no part of what the broker or its tests need.
docs: .venv/docs.stamp  ## make the site of docs/ in dist/docs, offline; every warning is an error
	@rm -rf dist/docs
	@.venv/docs/bin/sphinx-build --fail-on-warning --keep-going --nitpicky --fresh-env --quiet \
		--doctree-dir .venv/docs/doctrees docs dist/docs
	@echo "Ready: $(CURDIR)/dist/docs/index.html"

image: dist/wheels.stamp  ## build the image of the broker; BASE=, IMAGE=, ENGINE=: from what, its name, podman or docker
	@$(call refuse,$(if $(ENGINE),,there is neither podman nor docker: install one or name another: make image ENGINE=PATH))
	$(ENGINE) build --network=none --tag "$(IMAGE)" --build-arg "BASE=$(BASE)" --build-arg "VERSION=$(VERSION)" \
		--build-arg "REVISION=$(REVISION)" --build-arg "CREATED=$(CREATED)" --build-arg "SOURCE=$(SOURCE)" .

sbom: .venv/sbom.stamp dist/wheels.stamp  ## write dist/sbom.json: what is in the image (CycloneDX), checked
	@.venv/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json \
		.venv/sbom/image/bin/python
	@.venv/sbom/bin/python deploy/image/sbom.py dist/sbom.json --version $(VERSION) --lock requirements/run.txt \
		--wheels dist/wheels --project pyproject.toml

format: .venv/dev.stamp
	$(BIN)/ruff format --check --quiet

lint: .venv/dev.stamp
	$(BIN)/ruff check --quiet

types: .venv/dev.stamp
	$(BIN)/mypy

imports: .venv/dev.stamp
	$(BIN)/lint-imports

unit: .venv/dev.stamp
	$(call PYTEST,2) tests/unit $(COVERED:%=--cov=%) --cov-branch --cov-fail-under=$(COVERAGE_FLOOR) \
		--cov-report=term-missing:skip-covered

bigger-tests: .venv/dev.stamp node
	$(call PYTEST,4) tests --ignore=tests/unit --ignore=tests/machines

# Finds a Node.js or installs one into .venv, and the server of tests/interop with it. Where that fails it says
# why, and those tests are skipped, unless all must run.
node: .venv/dev.stamp
	@$(BIN)/python -m tests.interop.node $(if $(MUST_RUN_ALL),--required)

# On the oldest Python that is supported, because newer ones need a part of what it needs.
lock: .venv/run.stamp  ## make the lock files anew, on Python 3.11; UPGRADE=1: with the newest versions
	@$(BIN)/python -c "import sys; sys.exit(sys.version_info[:2] != (3, 11) and 'lock files are made on Python 3.11')"
	$(BIN)/python -m venv .venv/lock
	.venv/lock/bin/pip install --quiet $(LOCKING)
	cd requirements && $(PIP_COMPILE) --output-file run.txt ../pyproject.toml
	cd requirements && for name in build dev node docs sbom; do $(PIP_COMPILE) --output-file $$name.txt $$name.in; done
	cd tests/interop/server && npm install --package-lock-only $(if $(filter 1,$(UPGRADE)),&& npm update --package-lock-only)

clean:  ## remove everything that these targets made
	rm -rf .venv tests/interop/server/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .coverage .coverage.* dist
	find broker tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets stand on ---

# One line that says what to do if this machine cannot run the broker; nothing otherwise.
define OBSTACLE
[ "$$(uname -s)" = Linux ] || { echo "the broker runs on Linux only"; exit; }; \
command -v "$(PYTHON)" >/dev/null || { echo "there is no $(PYTHON): install Python 3.11 or newer, or name another one: make PYTHON=PATH"; exit; }; \
"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { echo "$(PYTHON) is no Python 3.11 or newer that runs: name one: make PYTHON=PATH"; exit; }; \
"$(PYTHON)" -c "import ensurepip, venv" 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)"; exit; }
endef
refuse = $(if $(1),$(error $(1)))

.venv/run.stamp: requirements/run.txt requirements/build.txt pyproject.toml
	@$(call refuse,$(shell $(OBSTACLE)))echo "Installing the locked packages into .venv ..."
	@$(BIN)/python -c "import sys, pip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	@$(PIP) install --require-hashes --requirement requirements/run.txt --requirement requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	@echo "Installing the locked tools of the tests into .venv ..."
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@touch $@

.venv/docs.stamp: requirements/docs.txt .venv/run.stamp
	@echo "Installing the locked tools of the site into .venv/docs ..."
	@$(BIN)/python -m venv --clear .venv/docs
	@.venv/docs/bin/python -m pip --disable-pip-version-check --no-input --quiet \
		install --require-hashes --requirement requirements/docs.txt
	@touch $@

# The packages of the image and those that build the broker, for the Python of the image and the processor of this machine.
dist/wheels.stamp: requirements/run.txt requirements/build.txt .venv/run.stamp
	@echo "Fetching the locked packages into dist/wheels ..."
	@rm -rf dist/wheels
	@$(PIP) download --require-hashes --no-deps --only-binary=:all: --python-version $(IMAGE_PYTHON) --dest dist/wheels \
		--requirement requirements/run.txt --requirement requirements/build.txt
	@touch $@

# The generator of the bill of materials, and beside it what it looks at: the packages of the image and nothing else.
.venv/sbom.stamp: requirements/sbom.txt requirements/run.txt .venv/run.stamp
	@echo "Installing what writes the bill of materials into .venv/sbom ..."
	@$(BIN)/python -m venv --clear .venv/sbom
	@$(PIP) --python .venv/sbom/bin/python install --require-hashes --requirement requirements/sbom.txt
	@$(BIN)/python -m venv --without-pip .venv/sbom/image
	@$(PIP) --python .venv/sbom/image/bin/python install --require-hashes --requirement requirements/run.txt
	@touch $@

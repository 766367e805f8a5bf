# Everything a developer and CI run; `make help` lists it. Tools live in .venv, pinned by constraints.txt.
# PYTHON chooses the interpreter; each other than the default has an environment of its own: .venv-python3.13.
PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VERSIONS ?= 1.32.2 1.36.3 1.37.2
SECONDS ?= 60
# Each worker of pytest has a control plane of its own, and the tests of a file stay together: they share processes.
WORKERS ?= 3
# Unit tests share nothing, and some of them wait.
UNIT_WORKERS ?= 3
CLUSTER := $(BIN)/pytest -q -n $(WORKERS) --dist loadfile
# Leaders, wars and chaos are about us, not about the version of the API server: `make test-all` has them.
# What explain predicts is the validation of 1.36, and the generator of test_acceptance was tried there alone.
OURS := $(addprefix --ignore=tests/cluster/test_,$(addsuffix .py,acceptance chaos controlplane demo explain leaders leadership wars))

.DEFAULT_GOAL := help
.PHONY: help check static format lint types contracts unit coverage test test-rest test-all test-matrix controlplane demo chaos bench fuzz image-size clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	@set -e; python=$$(for one in $(PYTHON) $$HOME/.pyenv/versions/*/bin/$(PYTHON); do \
	  if $$one -c '' 2>/dev/null; then echo $$one; break; fi; done); \
	if [ -z "$$python" ]; then echo "no $(PYTHON) that runs was found in PATH or in ~/.pyenv/versions" >&2; exit 1; fi; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, found " + sys.version)'; \
	$$python -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The static checks use one core, and the unit tests leave one idle at their end: both run side by side.
check: $(READY) ## format, lint, types, import contracts, unit tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target static unit

static: format lint types contracts

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

unit: $(READY) ## the unit tests, UNIT_WORKERS (3) at a time; `make unit PYTHON=python3.13` on another Python
	$(BIN)/pytest -q -n $(UNIT_WORKERS) tests/unit

coverage: $(READY) ## the unit tests with coverage of lines and branches, in this process and in those they start
	$(BIN)/pytest -q -n $(UNIT_WORKERS) --cov --cov-report=term --cov-report=html tests/unit

test: check ## all of check, then the main job on a real kube-apiserver (built or fetched the first time)
	$(CLUSTER) -m main tests/cluster tests/charts

test-rest: $(READY) ## every test on a real kube-apiserver that `make test` leaves out
	$(CLUSTER) -m "not main" tests/cluster tests/charts

test-all: test test-rest ## every test

test-matrix: $(READY) ## the cluster tests that depend on the API server, on each of VERSIONS
	@set -e; for version in $(VERSIONS); do \
	  echo "== Kubernetes $$version"; \
	  SECCOMP_RECONCILER_KUBERNETES_VERSION=$$version $(CLUSTER) tests/cluster $(OURS); \
	done

controlplane: $(READY) ## start a control plane in the foreground and print the KUBECONFIG to use
	@$(BIN)/python -m tests.controlplane run

demo: $(READY) ## on a control plane of its own: a pod before and after, the proof, a rotation, repairs
	@$(BIN)/python -m tests.demo

chaos: $(READY) ## random faults against the whole, under load; CHAOS="--seed N --faults N" replays or shortens
	@$(BIN)/python -m tests.chaos $(CHAOS)

bench: $(READY) ## the benchmarks, on a control plane of their own
	@$(BIN)/python -m benchmarks

fuzz: $(READY) ## SECONDS (60) of coverage-guided fuzzing for each target, and the property tests and models at random
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz.review $(SECONDS)
	$(BIN)/python -m tests.fuzz.http $(SECONDS)
	$(BIN)/pytest -q tests/unit -k "properties or model" --hypothesis-profile=explore

image-size: $(READY) ## build the image's files here, without Docker, and print what they weigh
	@$(BIN)/python image/build.py

clean: ## remove what the targets above made here (not the cached control planes)
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov dist

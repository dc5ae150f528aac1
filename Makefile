# SPDX-License-Identifier: Apache-2.0
# One entry to everything. `make` alone lists the targets.
#
# Needs: Python 3.11 or newer with venv, make. uv is taken from the PATH or installed into the cache; the rest of
# the Python tools comes from uv.lock. What the cluster needs beyond that, `make up` says or installs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

NIMBLET_CACHE ?= $(HOME)/.cache/nimblet
export NIMBLET_CACHE
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo $(NIMBLET_CACHE)/uv/bin/uv)
RUN := $(UV) run --no-sync
# Programs of the repository call uv too.
export PATH := $(dir $(UV)):$(PATH)
# Tests start hundreds of programs: compile Python once, whatever the environment says, and not into the tree.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(NIMBLET_CACHE)/pycache
# The workers of a run must find the tests in one order, sets among their parameters too; another one each time.
export PYTHONHASHSEED := $(shell od -An -N2 -tu2 /dev/urandom | tr -d ' ')
# Each image's tests are modules named tests.*: checked one image at a time.
TYPED := "operator/nimblet images/loader e2e tests" images/attestation images/egress images/gateway images/indexer images/relevance images/retriever images/tls
LOCAL := tests/unit tests/golden tests/contract images/attestation/tests images/egress/tests images/gateway/tests images/indexer/tests images/loader/tests images/relevance/tests images/retriever/tests images/tls/tests
FUZZ_SECONDS ?= 60
# Further arguments for pytest, such as ARGS="-k resolve".
ARGS ?=
# How many tests go at the same time where everything is tested (tests/lanes.py); 0: one after the other.
LANES ?= 2
# So many failed tests are asked once more, with their whole files (tests/again.py). CI has 3; by default none is.
AGAIN ?= 0

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 18

.PHONY: demo
demo: sync ## Cluster, operator, a real small model, an answer with its source, and a refusal
	$(RUN) python -m e2e.demo

.PHONY: test
test: check prepare ## Everything: check, then unit, golden, contract, cluster, fault, loader and end-to-end tests
	$(RUN) pytest --numprocesses=$(LANES) $(ARGS) || \
	  $(RUN) python -m tests.again --status $$? --most $(AGAIN) --numprocesses=$(LANES)

.PHONY: check
check: sync ## Format, lint, types, import directions, generated files; no test
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	for folders in $(TYPED); do $(RUN) mypy $$folders; done
	$(RUN) lint-imports --no-logo
	$(RUN) python -m nimblet.crdgen --check
	$(RUN) python -m tests.golden.regenerate --check

.PHONY: prepare
prepare: sync ## Build or fetch what the cluster, the images and the tests need; cached outside the tree
	$(RUN) python -m e2e.cluster tools
	$(RUN) python -m e2e.images build

.PHONY: test-unit
test-unit: sync ## Unit, golden, contract and loader tests; no cluster, no root
	$(RUN) pytest --numprocesses=$(LANES) $(LOCAL) $(ARGS)

.PHONY: fuzz
fuzz: sync ## Coverage-guided fuzzing of the header parsers, FUZZ_SECONDS (60) each; atheris, Linux only
	for parser in gguf safetensors config; do \
	  PYTHONPATH=images/loader $(UV) run --frozen --all-packages --group fuzz python -m loader_testing.fuzz $$parser $(FUZZ_SECONDS); done

.PHONY: test-cluster
test-cluster: prepare ## Tests against etcd, kube-apiserver and controller-manager with make-believe nodes
	$(RUN) pytest tests/cluster $(ARGS)

.PHONY: test-faults
test-faults: prepare ## The operator killed, refused, deafened and sent back in time, behind a fault proxy
	$(RUN) pytest tests/faults $(ARGS)

.PHONY: test-faults-full
test-faults-full: prepare ## The same with a crash before and after every single write; about an hour
	NIMBLET_FAULTS_FULL=1 $(RUN) pytest tests/faults --log-cli-level=INFO $(ARGS)

.PHONY: test-e2e
test-e2e: prepare ## User journeys on the disposable cluster with real pods and a real model
	$(RUN) pytest e2e/scenarios $(ARGS)

.PHONY: test-cert-manager
test-cert-manager: prepare ## Certificates by cert-manager's own controllers; builds them, minutes the first time
	$(RUN) pytest e2e/certmanager $(ARGS)

.PHONY: bench
bench: sync ## Figures: BENCH="ready sizing" by default; loader, retriever, idle and scale too (docs/figures.md)
	$(RUN) python -m tests.bench $(BENCH)

.PHONY: gen
gen: sync ## Write what is generated: CRDs, docs/api.md, golden outputs
	$(RUN) python -m nimblet.crdgen
	$(RUN) python -m tests.golden.regenerate

.PHONY: up
up: sync ## Bring the disposable cluster up; the first time builds its tools
	$(RUN) python -m e2e.cluster up

.PHONY: down
down: sync ## Remove the disposable cluster and everything of it
	$(RUN) python -m e2e.cluster down

.PHONY: images
images: sync ## Build the images of the operator and its data plane, and the tests' mirror
	$(RUN) python -m e2e.images build

.PHONY: format
format: sync ## Format the sources and apply safe lint fixes
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

.PHONY: sync
sync: $(UV) ## Install the locked Python tools into .venv
	@$(UV) sync --frozen --quiet

$(NIMBLET_CACHE)/uv/bin/uv:
	python3 -m venv $(NIMBLET_CACHE)/uv
	$(NIMBLET_CACHE)/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

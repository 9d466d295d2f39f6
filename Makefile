# The menu. Every target works from a bare clone; `make` alone prints this list.

DATA   ?= ./data
DATA_S3 ?= ./data-s3
HTTP   ?= 127.0.0.1:8080
HTTPS  ?= 127.0.0.1:8443
PYTEST_ARGS ?=
TEST_PROCESSES ?= $(shell echo $$(($$(nproc) + 1)))
BIN    := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run run-s3 test lint fmt docs bench bench-short clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## only the environment: .venv with gateway, registry and python
	@.ci/setup

run: setup ## a working registry under ./data, from nothing
	@exec $(BIN)/python -m gateway.first_run --data-dir $(DATA) --http $(HTTP) --https $(HTTPS)

run-s3: setup ## the same with images in S3: a SeaweedFS of its own, all under ./data-s3
	@exec $(BIN)/python -m tests.support.run_s3 --data-dir $(DATA_S3) --http $(HTTP) --https $(HTTPS)

test: setup ## all tests; as root it installs the Debian packages they need
	@tests/install-debian-packages
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache

fmt: setup ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## write the generated pages: settings, commands, errors
	$(BIN)/python -m docs.generate

bench: setup ## every row of docs/bench.md, several rounds, beside the peers
	@tests/install-debian-packages
	$(BIN)/python -m bench --rounds 3 --write-docs

bench-short: setup ## a minute of the same, for every day
	@tests/install-debian-packages
	$(BIN)/python -m bench --short

clean: ## remove what was built; ./data stays
	rm -rf .venv dist build bench/bin bench/results tests/conformance/bin \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# hali: `make help` lists what there is. Everything happens in .venv; nothing is installed outside it and the build
# cache (HALI_BUILD_CACHE, by default ~/.cache/hali-build).
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
export VENV := $(CURDIR)/.venv

.PHONY: help setup demo test test-long lint format bench wheel lock clean distclean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## make .venv: pinned packages, llama-cpp-python (4 to 5 minutes the first time), hali, the small model
	@ci/setup

demo: setup ## two nodes on this machine share a model and answer a chat; KEEP=1 leaves the second one running
	@.venv/bin/hali demo $(if $(KEEP),--keep) "$$(ci/ensure_model)"

test: ## lint, layering, Rust, unit, property and integration tests, wheels in fresh environments: what CI runs
	@ci/run

test-long: ## the same with the tests that take minutes and many more random cases
	@HALI_LONG=1 ci/run

lint: setup ## ruff, mypy, clippy, rustfmt
	@ci/lint

format: setup ## let ruff and rustfmt rewrite the files
	@$(PY) -m ruff check --fix-only --quiet . && $(PY) -m ruff format . && cargo fmt --all

bench: setup ## compare with every rival: bench/results, README's table, floors (half an hour)
	@ci/bench

wheel: setup ## dist/: a wheel for the Python of .venv, and the sdist
	@$(PY) -m build --no-isolation --sdist --outdir dist . && $(PY) -m build --no-isolation --wheel --outdir dist .

lock: setup ## write what is installed in .venv to ci/constraints.txt
	@ci/lock

clean: ## remove what was built; .venv and the build cache stay
	@rm -rf target dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis python/hali/_native/*.so
	@find python tests build_backend -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## and .venv
	@rm -rf .venv

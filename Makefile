# Every target does its own set-up: a fresh clone needs Python 3.11 or newer, git and make, and nothing else.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench fmt lock clean setup
export PYTHON

PY := .venv/bin/python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.13 make ...   use this interpreter"

demo: setup ## Run the order service on SQLite, a burst and a crash included; KEEP=1 leaves it up
	@$(PY) -m examples.orders $(if $(KEEP),--keep)

test: setup ## Run every test; ARGS="-k lease -x" goes to pytest
	@$(PY) -m pytest -n 2 $(ARGS)

check: setup ## Check format, lint, types, import layers and documents; changes nothing
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) .venv/bin/lint-imports --no-logo
	$(PY) -m scripts.check_docs

bench: setup ## Measure speed and memory beside the raw driver's ceiling; ARGS go to the benchmark
	@$(PY) -m bench $(ARGS)

fmt: setup ## Format the code and mend what the linter can, and redraw generated documents
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .
	$(PY) -m scripts.check_docs --write

lock: setup ## Pin the newest versions that pyproject.toml allows, with hashes
	$(PY) -m uv pip compile pyproject.toml --quiet --upgrade --output-file requirements/dev.lock \
	  --group dev --extra demo --extra pydantic --extra uvloop \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

clean: ## Remove the environment, caches and build output
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests examples bench scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

setup:
	@scripts/setup.sh

# make run · make test · make bench · make notebooks · make starter DATA=… · make screenshots
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
ARGS ?=

.PHONY: run test check install bench notebooks starter screenshots clean

run: .venv/.run
	@$(BIN)/python app.py $(ARGS)

install: .venv/.run

test: .venv/.dev check
	@$(BIN)/python -m pytest

check: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.dev
	@$(BIN)/python -m tests.benchmarks

notebooks: .venv/.dev
	@$(BIN)/python -m tests.notebooks

screenshots: .venv/.dev
	@$(BIN)/python -m tests.browser.screenshots

starter: .venv/.dev
	@$(BIN)/python -m llmops_kit.starter lm --data $(DATA)
	@$(BIN)/python -m llmops_kit.starter.reader --data $(DATA)

# The stamps make a second run start without pip: it is called again only when the pins or the dependencies changed.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "llmops_kit needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Next: make run PYTHON=python3.11 / Python 3.11以上が必要です。")'
	@$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing into .venv (a few minutes, once) / .venvにインストールしています（初回のみ数分）…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch .venv/.run

.venv/.dev: .venv/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch .venv/.dev

clean:
	@rm -rf .venv build dist .mypy_cache .ruff_cache .import_linter_cache

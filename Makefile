# On Linux without an NVIDIA GPU, TORCH_INDEX brings the CPU build of torch instead of several gigabytes of CUDA libraries:
#   make run TORCH_INDEX=<the address that PyTorch's own "Get started" page gives for pip and CPU>
# It may be the address of an index, an .html page of links, or a folder of wheels. Change it later: make clean first.
# make run · make test · make bench · make notebooks · make starter DATA=… · make screenshots
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
ARGS ?=
TORCH_INDEX ?=
TORCH_FROM := $(if $(TORCH_INDEX),$(if $(or $(filter %.html,$(TORCH_INDEX)),$(wildcard $(TORCH_INDEX))),--find-links,--extra-index-url) $(TORCH_INDEX))
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_FROM)

.PHONY: run test check install bench notebooks starter screenshots clean

run: .venv/.run
	@$(BIN)/python app.py $(ARGS)

install: .venv/.run

test: .venv/.dev check
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

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

# The small starter-lm, in place of the large one that the package brings (git checkout brings that back).
starter: .venv/.dev
	@$(BIN)/python -m llmops_kit.starter lm --data $(DATA)
	@$(BIN)/python -m llmops_kit.starter lm --data $(DATA) --polish
	@$(BIN)/python -m llmops_kit.starter card
	@$(BIN)/python -m llmops_kit.starter.embedding --data $(DATA)
	@$(BIN)/python -m llmops_kit.starter.reader --data $(DATA)

# The stamps make a second run start without pip: it is called again only when the pins or the dependencies changed.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "llmops_kit needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Next: make run PYTHON=python3.11 / Python 3.11以上が必要です。")'
	@said=$$($(PYTHON) -m venv .venv 2>&1) || { rm -rf .venv; \
	  if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then said=$$(echo "$$said" | tail -n 1); \
	  else said=$$($(PYTHON) -c 'import sys; print("on Debian or Ubuntu: sudo apt-get install python%d.%d-venv" % sys.version_info[:2])'); fi; \
	  echo "$(PYTHON) cannot make the virtual environment .venv. $$said / 仮想環境を作れません。対処してから再実行してください。" >&2; exit 2; }

ADVISE_CPU = if [ -n "$$(ls -d .venv/lib/python*/site-packages/nvidia 2>/dev/null)" ] && ! command -v nvidia-smi >/dev/null; then \
	echo "CUDA libraries were installed, but there is no NVIDIA GPU here. To save the space: make clean, then TORCH_INDEX=… (see the top of the Makefile) / GPUがないため、TORCH_INDEXを指定すると容量を節約できます。"; fi

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing into .venv (a few minutes, once) / .venvにインストールしています（初回のみ数分）…"
	@$(PIP_INSTALL) -e .
	@$(if $(TORCH_INDEX),true,$(ADVISE_CPU))
	@touch .venv/.run

.venv/.dev: .venv/.run
	@$(PIP_INSTALL) -e '.[dev]'
	@touch .venv/.dev

clean:
	@rm -rf .venv build dist .mypy_cache .ruff_cache .import_linter_cache

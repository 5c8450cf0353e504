# Needs make and Python >= 3.10; everything else is installed into .venv, whose stamp makes a second call quick.

PYTHON ?= python3
SEEDS ?= 2000
S ?= 600
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LAB_STAMP := $(VENV)/.installed-lab
BENCH_STAMP := $(VENV)/.installed-bench
BROWSER_STAMP := $(VENV)/.installed-browser

.PHONY: help demo test features soak docs screenshots lab check bench bench-board sim fresh clean

help:
	@echo "make demo          run the quick-start notebook in a real kernel, with live progress here"
	@echo "make test          run every test, then the notebooks"
	@echo "make features      run the tests of features; lists the features without a passing one"
	@echo "make check         formatting, lint, types"
	@echo "make lab           open JupyterLab on the notebooks"
	@echo "make sim SEEDS=n   run n seeds of the simulator"
	@echo "make soak S=n      kill workers, pools and brokers under load for n seconds"
	@echo "make docs          write the API reference into build/docs"
	@echo "make screenshots   pictures of a notebook, light and dark, into build/screenshots"
	@echo "make bench         measure beside other systems; AGAINST=commit compares with that commit"
	@echo "make bench-board   what a live board costs the notebook that shows it"
	@echo "make fresh         clone HEAD, then do there what a newcomer does"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	    || { echo "nbtasks needs Python >= 3.10; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev,demo]'
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	@touch $@

# JupyterLab and Playwright, and a browser: one that is here, else Debian's.
$(BROWSER_STAMP): $(STAMP) tests/browser/chromium.py
	$(BIN)/python -m pip install --quiet -e '.[browser]'
	$(BIN)/python -m tests.browser.chromium
	@touch $@

$(LAB_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[lab]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m tests.demo

# Tests with real processes mostly wait, so three of their files go at a time, the longest first
# (tests/system/conftest.py); a browser wants the machine alone.
test: $(BROWSER_STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore=tests/system --ignore=tests/browser
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/system
	$(BIN)/python -m pytest tests/browser
	$(BIN)/python -m pytest -n 2 --dist loadfile -p tests.notebook_home --nbval --nbval-current-env --nbval-cell-timeout 120 \
	    --nbval-sanitize-with tests/nbval.cfg notebooks

features: $(BROWSER_STAMP)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -p tests.features -m feature

check: $(STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

# An editable install puts nothing beside Jupyter's own files, so they are named here.
lab: $(LAB_STAMP)
	JUPYTER_CONFIG_PATH=$(CURDIR)/jupyter-config JUPYTER_PATH=$(CURDIR)/nbtasks/web \
	    $(BIN)/python -m jupyterlab --notebook-dir notebooks

bench: $(BENCH_STAMP)
	$(BIN)/python -m tests.bench --output build/bench $(if $(AGAINST),--against $(AGAINST)) $(if $(ROUNDS),--rounds $(ROUNDS))

sim: $(STAMP)
	$(BIN)/python -m tests.sim --seeds $(SEEDS)

docs: $(STAMP)
	$(BIN)/python -m pdoc --docformat numpy -o build/docs nbtasks

screenshots: $(BROWSER_STAMP)
	$(BIN)/python -m tests.browser.shots

soak: $(STAMP)
	$(BIN)/python -m tests.soak --seconds $(S)

bench-board: $(STAMP)
	$(BIN)/python -m tests.bench.board

# Only the standard library: the walk makes its own environment.
fresh:
	$(PYTHON) -m tests.fresh

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

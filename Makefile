# What people do, one line each; `doit` has more: doit help. `make help` prints the list.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# A test file stays with one worker, so that what its tests share is made once; each worker takes about 2 GB of memory.
WORKERS ?= --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: all setup list why doctor build report check clean test test-all lint picture help
all: setup ## set up, then everything up to the report
	$(BIN)/doit -n auto

setup: $(VENV)/.ready ## the virtual environment alone

# The stamp is written last, so a broken or interrupted set-up is taken up again. pip, not uv: the machine's own
# pip settings (index, certificates, a CPU build of torch) apply.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Ingot needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# What only tests and lint need.
$(VENV)/.dev-ready: $(VENV)/.ready requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	touch $@

list: setup ## the tasks
	$(BIN)/doit list

why: setup ## what would be built, and why; builds nothing
	$(BIN)/doit why

doctor: setup ## is everything here that a build needs?
	$(BIN)/doit doctor

build: setup ## MODEL=name: one model, without the report
	$(BIN)/doit model:$(or $(MODEL),$(error which one? make build MODEL=name; the names: make list))

report: setup ## the report, and all that it tells of
	$(BIN)/doit report

check: setup ## is everything as it was built, also what is deployed?
	$(BIN)/doit check

clean: setup ## remove what was built, also what is deployed
	$(BIN)/doit clean

test: $(VENV)/.dev-ready ## every test but the long suites
	$(BIN)/pytest $(WORKERS) -m "not long"

test-all: $(VENV)/.dev-ready ## the long suites too
	$(BIN)/pytest $(WORKERS)

lint: $(VENV)/.dev-ready ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

picture: setup ## tests/report/example.png, of build/report (needs Chromium)
	$(BIN)/python -m scripts.report picture --report build/report/index.html --output tests/report/example.png

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /make \1	/p' Makefile | expand -t 16

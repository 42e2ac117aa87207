# make          set up, then cast, deploy, verify and measure every model of config/models.toml
# make setup    the virtual environment alone
# make test     every test but the long suites;  make test-all: those too;  make lint: style and types
# make picture  tests/report/example.png, of the report that stands in build/
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# A test file stays with one worker, so that what its tests share is made once; each worker takes about 2 GB of memory.
WORKERS ?= --numprocesses=logical --maxprocesses=4 --dist=loadfile

.PHONY: all setup test test-all lint picture
all: setup
	$(BIN)/doit

setup: $(VENV)/.ready

# The stamp is written last, so a broken or interrupted set-up is taken up again. pip, not uv: the machine's own
# pip settings (index, certificates, a CPU build of torch) apply.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Ingot needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

test: setup
	$(BIN)/pytest $(WORKERS) -m "not long"

test-all: setup
	$(BIN)/pytest $(WORKERS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

picture: setup
	$(BIN)/python -m scripts.report picture --report build/report/index.html --output tests/report/example.png

# Two commands set everything up on a bare machine: `make demo` and `make test`.
#   make demo       simulate, train, reconstruct, refine; pictures and numbers go to demo_output/
#   make test       the fast tests          make test-all   all tests
#   make lint       ruff and mypy           make format     rewrite the layout of the code
#   make fuzz       damaged files of every kind, a minute of each reader
#   make docs       the documentation, strictly, into build/site
#   make lock       renew requirements.lock from pyproject.toml

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
SCANS   = $(wildcard ../shared/data)
# two processes of one thread each: most tests are too small for two threads; long files first (tests/conftest.py);
# compiled once, whatever the environment says: many tests start Python anew
# in an order by chance (pytest-randomly); the same one again: PYTEST_ADDOPTS=--randomly-seed=N make test
PYTEST  = OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= \
          $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(SCANS),--scan-dir=$(SCANS))

.PHONY: install demo test test-all fuzz lint format docs lock clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .
	touch $@

demo: install
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python scripts/demo.py --output demo_output

test: install
	$(PYTEST) -m "not slow"

test-all: install
	$(PYTEST)

fuzz: install
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python scripts/fuzz.py all --seconds 60 --keep build/fuzz

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python scripts/docs/build.py --output build/site

# torch is named first and alone: the newest build that a bare `torch` takes brings gigabytes of CUDA
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --upgrade pip
	build/lock/bin/python -m pip install torch==2.13.0 tensorflow==2.21.0
	build/lock/bin/python -m pip install ".[dev,docs]"
	echo "# Pinned environment of make, for Python 3.11 and newer; renewed by make lock" > requirements.lock
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude ptychopinn | sed 's/+cpu$$//' >> requirements.lock

clean:
	rm -rf build dist demo_output *.egg-info .pytest_cache .mypy_cache .ruff_cache

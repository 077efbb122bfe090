# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Real collections for the `real` tests and the benchmarks; without them those tests skip and say so.
CRIBBLE_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)
export CRIBBLE_DATA
export MYPYPATH := $(VENV)/src

.PHONY: install demo test lint types pytest bench clean

install: $(STAMP)

# The stamp is written last, so an interrupted install is taken up again by the next call.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet "setuptools>=77" wheel
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet --editable ".[dev]"
	mkdir -p $(VENV)/src && ln -sfn "$(CURDIR)" $(VENV)/src/cribble
	touch $(STAMP)

demo: install
	$(BIN)/cribble run demo

test: lint types pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy -p cribble

# Two processes of one thread each: most tests wait for a process of their own or run one thread anyway.
pytest: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: install
	$(BIN)/python -m cribble.bench

clean:
	rm -rf $(VENV) build *.egg-info runs indexes .mypy_cache .ruff_cache .pytest_cache

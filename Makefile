# make demo   the whole way on simulated people, in minutes
# make test   lint and the tests, in minutes; `.venv/bin/python -m pytest` runs the slow ones too
# make setup  what both do first, once: a virtual environment in .venv with the tested versions
# make torture   faults injected for real, at random, for 38 minutes
# make sanitize  the C++ parts under sanitizers
# make oldest  the oldest Triton that is promised, for a test that compiles the kernels with it
# make lint, make format, make benchmark, make clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The packages of this system by their digests, where they are known for it and for this Python.
LOCK := $(wildcard requirements/$(shell uname -s | tr A-Z a-z)-$(shell uname -m).txt)
IS_LOCKED := $(shell $(PYTHON) -c 'import sys; print("yes" * (sys.version_info[:2] == (3, 11)))')
CPP := $(wildcard csrc/*.h csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh)

.PHONY: demo test torture sanitize oldest setup lint format benchmark clean

demo: $(READY)
	$(BIN)/ikem-fast demo --out runs/demo

test: lint
	$(BIN)/python -m pytest -m 'not slow' -n auto --dist loadfile --no-loadscope-reorder --benchmark-disable

torture: $(READY)
	$(BIN)/pip install --quiet 'atheris==3.0.0; platform_system == "Linux"'
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.torture

sanitize: $(READY)
	PYTHON=$(BIN)/python tools/sanitize.sh

# Beside the one that runs: where it is, tests compile with it, and without it they say so.
oldest: build/oldest-triton
build/oldest-triton: $(READY)
	$(BIN)/pip install --quiet --no-deps --target $@ triton==3.6.0

setup: $(READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

benchmark: $(READY)
	$(BIN)/python -m pytest --benchmark

clean:
	rm -rf $(VENV) build *.egg-info ikem_fast/*.so

# torch comes first: the extension is compiled against the torch that is installed, not against another one.
$(READY): pyproject.toml setup.py constraints.txt $(LOCK) $(CPP)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ikem-fast needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(if $(and $(LOCK),$(IS_LOCKED)),$(BIN)/pip install --quiet --require-hashes --no-deps --requirement $(LOCK))
	$(BIN)/pip install --quiet --constraint constraints.txt torch numpy setuptools wheel pybind11 ninja
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,triton]'
	touch $@

# make demo   the whole way on simulated people, in minutes
# make test   lint and every test
# make setup  what both do first, once: a virtual environment in .venv with the tested versions
# make torture   faults injected for real, at random, for 35 minutes
# make lint, make format, make benchmark, make clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CPP := $(wildcard csrc/*.h csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh)

.PHONY: demo test torture setup lint format benchmark clean

demo: $(READY)
	$(BIN)/ikem-fast demo --out runs/demo

test: lint
	$(BIN)/python -m pytest -n auto --dist loadgroup --benchmark-disable

torture: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tools/torture.py

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
$(READY): pyproject.toml setup.py constraints.txt $(CPP)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ikem-fast needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch numpy setuptools wheel pybind11 ninja
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,triton]'
	touch $@

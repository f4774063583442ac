# make demo   train a zoo on real digits, sparsify it both ways, write demo/report.html
# make test   the whole test suite, Python and C++
# Both make .venv first; neither needs more than Python, a compiler and a package index.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CTEST_BUILD := build/ctest

# torch is spelt exactly so: a range or a bare name would fetch a CUDA build of several gigabytes.
TORCH ?= torch==2.13.0

SOURCES := setup.py CMakeLists.txt pyproject.toml $(shell find csrc -type f 2>/dev/null)

.PHONY: demo test test-fallback simulations sanitize cuda-check gpu-check lint format bench clean

demo: $(VENV)/.installed
	$(BIN)/zoosparse demo --out demo

test: $(VENV)/.installed $(CTEST_BUILD)/.built
	cd $(CTEST_BUILD) && $(abspath $(BIN))/ctest --output-on-failure
	$(BIN)/python -m pytest -n 2

test-fallback: $(VENV)/.installed  ## the same suite on the PyTorch reference alone
	ZOOSPARSE_DISABLE_EXT=1 $(BIN)/python -m pytest -n 2

simulations: $(VENV)/.installed  ## 200 simulated zoos of each known truth: how often verdicts of the claims are wrong; some 20 minutes
	ZOOSPARSE_SIMULATIONS=200 $(BIN)/python -m pytest -n 2 tests/analysis/test_simulations.py

sanitize: $(VENV)/.dependencies  ## the C++ tests under the address, undefined-behaviour and thread sanitizers
	@for kind in address,undefined thread; do \
	    folder=build/sanitize-$${kind%%,*}; \
	    $(BIN)/cmake -S . -B $$folder -G Ninja -DZOOSPARSE_SANITIZE=$$kind -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	        -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g" -DZOOSPARSE_BUILD_EXTENSION=OFF -DZOOSPARSE_BUILD_TESTS=ON \
	        -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja > /dev/null && \
	    $(BIN)/cmake --build $$folder && \
	    (cd $$folder && $(abspath $(BIN))/ctest --output-on-failure) || exit 1; \
	done

cuda-check:  ## compile the CUDA kernels and print what they take of a multiprocessor; needs nvcc, but no GPU
	$(firstword $(wildcard $(BIN)/python) $(PYTHON)) .ci/cuda-check

gpu-check:  ## build, test, sanitize and time the CUDA kernels on this machine's GPU, offline, with its own python3 and torch
	$(PYTHON) .ci/gpu-check

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cuh' -o -name '*.cu' | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cuh' -o -name '*.cu' | xargs $(BIN)/clang-format -i

bench: $(VENV)/.installed
	$(BIN)/python -m pytest benchmarks/*.py

$(VENV)/.dependencies: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==25.2
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt setuptools wheel pybind11 ninja cmake
	touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

$(CTEST_BUILD)/.built: $(VENV)/.installed $(SOURCES)
	$(BIN)/cmake -S . -B $(CTEST_BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release -DZOOSPARSE_BUILD_EXTENSION=OFF -DZOOSPARSE_BUILD_TESTS=ON \
	    -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja > /dev/null
	$(BIN)/cmake --build $(CTEST_BUILD)
	touch $@

clean:
	rm -rf build $(VENV) demo
	find . -name '*.so' -path './zoosparse_ext/*' -delete

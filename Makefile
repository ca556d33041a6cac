# `make demo` and `make test` work on a fresh clone: they make .venv, install into it, and install again when needed.
#
#   PYTHON=python3.12 make test     another interpreter (3.10 or later)
#   ATTRIBUTOR_PURE=1 make test     no C++ compiler: the reference in plain torch only, slower
#   ATTRIBUTOR_CUDA=OFF make test   without the CUDA kernel, which is compiled where nvcc is; ON stops where it cannot be
#   make demo WEIGHTS=mean          the plain definition instead of the default model's retrieval heads
#   make test ARGS="-k record -x"   arguments for pytest; likewise `make bench ARGS=...`
#   make test ARGS="-n0 --pdb"      in one process instead of one for each core, four at most

PYTHON ?= python3
GPU_PYTHON ?= python3
WEIGHTS ?= retrieval
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # with it, each process that a test starts compiles our modules again

BIN := .venv/bin
NATIVE := $(if $(ATTRIBUTOR_PURE),,$(filter-out %.md,$(wildcard CMakeLists.txt csrc/*.* csrc/*/*.*)))
# An editable install knows the packages that it was made with, so the stamp's name holds their list and the mode.
FOLDERS := $(shell find attributor kernels eval -name '*.py' | sed 's|/[^/]*$$||' | sort -u) $(wildcard eval/*.py)
PACKAGES := $(shell printf '%s ' '$(ATTRIBUTOR_PURE)$(ATTRIBUTOR_CUDA)' $(FOLDERS) | cksum | cut -d ' ' -f 1)
INSTALLED := .venv/.installed-$(PACKAGES)
CPP := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu csrc/*/*.cuh tests/helpers/cuda/*.h tests/helpers/cuda/*.cpp)

.PHONY: help install demo test bench bench-results gpu-check lint format clean web web-check web-types
help:
	@echo "make demo    the whole thing on one question, in the terminal and in out/demo.html"
	@echo "make test    every test"
	@echo "make bench   the benchmarks, each beside its baseline"
	@echo "make bench-results   the same, kept in bench/results and shown in README.md; on an idle machine"
	@echo "make gpu-check   on a machine with a GPU, within 450 seconds: builds, every GPU test, measurements; ARGS=--help, docs/gpu.md"
	@echo "make lint    ruff, mypy, clang-format      make format    put them right"
	@echo "make web     the web views' bundle in attributor/web/static, from webapp/ (needs Node 20); make web-check compares"
	@echo "make clean   what was built; the virtual environment stays (remove .venv to start over)"

install: $(INSTALLED)

demo: $(INSTALLED)
	@mkdir -p out
	$(BIN)/attributor demo --weights $(WEIGHTS) --html out/demo.html

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python -m pytest bench/cpu $(ARGS)

bench-results: $(INSTALLED)
	@mkdir -p build
	$(BIN)/python -m pytest bench/cpu --benchmark-json=build/bench.json $(ARGS)
	$(BIN)/python bench/cpu/table.py build/bench.json

gpu-check:  # installs into build/gpu, from what this Python has: the versions that a GPU's machine came with
	@command -v $(GPU_PYTHON) >/dev/null || { \
		echo "$(GPU_PYTHON) not found; GPU_PYTHON=/path/to/python with torch for this GPU: make gpu-check GPU_PYTHON=..."; exit 1; }
	@PYTHONPATH="$(CURDIR)/bench$${PYTHONPATH:+:$$PYTHONPATH}" $(GPU_PYTHON) -m gpu.run $(if $(OUT),--out "$(OUT)") $(ARGS)

lint: $(BIN)/ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(CPP),$(BIN)/clang-format --dry-run --Werror $(CPP))

format: $(BIN)/ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CPP),$(BIN)/clang-format -i $(CPP))

# The bundle is committed, so that installing attributor needs no Node. NPM's own cache makes these quick the second time.
NODE_MODULES := webapp/node_modules/.package-lock.json
$(NODE_MODULES): webapp/package.json webapp/package-lock.json
	@command -v npm >/dev/null || { echo "npm not found: the web views are built with Node 20.19 or later"; exit 1; }
	cd webapp && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web: $(NODE_MODULES) web-types
	cd webapp && npm run --silent test && npm run --silent build

web-types: $(INSTALLED)  # TypeScript's types of the server's answers, from its OpenAPI description
	cd webapp/types && npm ci --no-audit --no-fund --loglevel=error
	$(BIN)/python -m attributor.web.openapi > build/openapi.json
	cd webapp/types && npx openapi-typescript ../../build/openapi.json --output ../src/api/schema.d.ts >/dev/null

web-check:  # what is committed is what the sources make
	$(MAKE) web
	@git diff --exit-code --stat -- attributor/web/static webapp/src/api/schema.d.ts && \
		test -z "$$(git status --porcelain -- attributor/web/static)" || { \
		echo "attributor/web/static is not what webapp/ makes: make web, and commit the two together"; exit 1; }

$(BIN)/ruff:  # the linters read the source: no need to compile what they complain about
	$(MAKE) install

clean:
	rm -rf build dist out .venv/.installed-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find attributor kernels eval bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: apt-get install python3, or PYTHON=/path/to/python make ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

$(INSTALLED): pyproject.toml constraints.txt $(NATIVE) | .venv/bin/pip
ifndef ATTRIBUTOR_PURE
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
		echo "No C++ compiler: apt-get install g++, or ATTRIBUTOR_PURE=1 make ... for the slower plain torch"; exit 1; }
	@$(BIN)/python -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { \
		echo "No Python headers: apt-get install python3-dev, or ATTRIBUTOR_PURE=1 make ... for the slower plain torch"; exit 1; }
endif
	@rm -f .venv/.installed-*
	@echo "Installing into .venv; the first time this takes a few minutes, most of it for torch"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

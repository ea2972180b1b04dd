# Two commands: `make run` plays the whole thing locally, `make test` runs every test. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamps
FUZZ_SECONDS ?= 120
# Most tests wait most of the time: two at a time take half as long on two cores.
TEST_WORKERS ?= 2
# The fuzzer has wheels for this one and newer ones.
FUZZ_PYTHON ?= python3.12

.PHONY: run test test-triton lint format check-types proto proto-check chaos fuzz bench docs lock clean help

help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | sort

$(STAMP)/run: requirements.lock clients/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=/path/to/python3")'
	@echo "Setting up $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable ./clients
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/dev: requirements-dev.lock $(STAMP)/run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@mkdir -p $(STAMP) && touch $@

# Referees that need environments of their own. Tests find them at these places, or by name in the environment.
$(STAMP)/engines: requirements-engines.lock
	@$(PYTHON) -m venv $(VENV)/engines
	@$(VENV)/engines/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-engines.lock
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/triton: requirements-triton.lock
	@echo "Setting up a Triton server, about 400 MB …"
	@$(PYTHON) -m venv $(VENV)/triton
	@$(VENV)/triton/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-triton.lock
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/fuzz: requirements.lock requirements-extras.lock requirements-fuzz.lock
	@$(FUZZ_PYTHON) -m venv $(VENV)/fuzz
	@$(VENV)/fuzz/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-extras.lock -r requirements-fuzz.lock
	@mkdir -p $(STAMP) && touch $@

run: $(STAMP)/run ## Starts server, adapter and a local WeCom, and prints where to chat.
	@$(BIN)/python tools/up.py

test: $(STAMP)/dev $(STAMP)/engines ## Runs every test, the short fault test included.
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --max-worker-restart 0

test-triton: $(STAMP)/dev $(STAMP)/triton ## Runs the tests against a real Triton server.
	@WECONVERSE_TRITON_PYTHON=$(VENV)/triton/bin/python $(BIN)/python -m pytest -v tests/triton

lint: $(STAMP)/dev ## Checks style, types, import rules and the contract.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tools/gen_docs.py --check
	@$(MAKE) --no-print-directory proto-check

format: $(STAMP)/dev ## Formats the code.
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

proto: $(STAMP)/dev ## Writes the stubs from proto/ and from server/llm/wire/.
	@$(BIN)/python tools/gen_stubs.py

proto-check: $(STAMP)/dev ## Fails when stubs drift, or the contract has findings or breaks against main.
	@$(BIN)/python tools/gen_stubs.py --check

chaos: $(STAMP)/dev ## Kills server and adapter at random, at least 30 times, and counts what was lost.
	@$(BIN)/python -m pytest tests/chaos -m chaos --chaos-long --timeout 900

fuzz: $(STAMP)/dev $(STAMP)/fuzz ## Tries the word filter on half a million random cuts, a million hostile characters, and what a fuzzer finds.
	@FILTER_CUTS=500000 HOSTILE_CHARACTERS=1048576 $(BIN)/python -m pytest -q --timeout 3600 \
	  tests/server/filter/test_word_stream.py tests/server/filter/test_passes.py tests/server/filter/test_pattern_stream.py \
	  tests/server/filter/test_rendering.py tests/server/filter/test_hostile_texts.py
	@for harness in fold matcher stream; do \
	  $(VENV)/fuzz/bin/python -m tests.fuzz.atheris_filter $$harness -max_total_time=$(FUZZ_SECONDS) -max_len=512 || exit 1; \
	done

bench: $(STAMP)/dev ## Measures ratios against the thinnest programs that do the same.
	@$(BIN)/python -m bench

docs: $(STAMP)/dev ## Writes docs/configuration.md, docs/errors.md and docs/metrics.md from their definitions.
	@$(BIN)/python tools/gen_docs.py

lock: ## Compiles requirements*.lock (needs uv on PATH).
	for name in requirements requirements-dev requirements-extras requirements-fuzz requirements-engines requirements-triton; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q $$name.in -o $$name.lock || exit 1; \
	done

clean: ## Removes what make made.
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache var

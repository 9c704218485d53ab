# Set-up, checks and a demonstration. Needs Python 3.11 to 3.13, no GPU.

VENV = .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

# The range of setup.cfg. A name on the path may be a shim without a Python.
IN_RANGE = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c "import ensurepip; $(IN_RANGE)" 2>/dev/null || continue; \
	echo $$python; break; done)

BROWSERS = chromium chromium-browser google-chrome

# Both ends of the range of setup.cfg, and what the next releases are made of.
oldest = tensorflow==2.18.0 keras==3.10.0
newest = --upgrade tensorflow keras
nightly = tensorflow keras
PIP = bin/python -m pip --disable-pip-version-check
nightly-instead = $(VENV)-nightly/$(PIP) uninstall -q -y tensorflow keras && \
	$(VENV)-nightly/$(PIP) install -q --upgrade tf-nightly-cpu keras-nightly
CONTRACTS = tests/upstream tests/strategy/test_strategy_contract.py
PAIRS = tests/parity/test_parity.py::test_training_equals_one_device_with_one_large_batch \
	tests/parity/test_parity_workers.py::test_two_workers_equal_one_device

# Workers have the kernels that a launcher gives them; one device the same.
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: help demo test browser test-long test-versions oldest-versions \
	newest-versions nightly-versions docs release-check exactness failures gpu \
	elastic soak bench bench-quick lint format clean
.DEFAULT_GOAL := help

help:  ## Lists these targets
	@sed -n 's/^\([a-z-]*\):.*##  */\1|/p' Makefile | \
		while IFS='|' read -r t d; do printf 'make %-13s %s\n' "$$t" "$$d"; done

demo: $(INSTALLED)  ## Trains on handwritten digits with two worker processes
	@$(BIN)/tfdp launch --workers 2 examples/digits.py --accumulation 4 \
		--data-dir runs/data --output runs/digits $(ARGS)

test: lint browser  ## Runs the linters, then a case of each claim
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder \
		--durations 60 $(ARGS)

# Of the tests of `tfdp report`; anywhere but on CI these skip without one.
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium, for the tests of tfdp report"; \
		apt-get -qq update && apt-get -qq install -y \
			--no-install-recommends chromium >/dev/null && exit; \
	fi; \
	echo "No browser for the tests of tfdp report: install chromium"

test-long: $(INSTALLED)  ## Runs all other cases: grids, random settings; takes long
	$(BIN)/pytest -n 2 --dist worksteal -m long $(ARGS)

test-versions: oldest-versions newest-versions nightly-versions  ## Runs contracts and parity on the oldest, newest and nightly TensorFlow and Keras

oldest-versions newest-versions nightly-versions: %-versions: $(INSTALLED)
	$(BIN)/python -m venv --clear $(VENV)-$*
	$(VENV)-$*/$(PIP) install -q -e '.[test]' $($*)
	$($*-instead)
	$(VENV)-$*/bin/pytest -m "" $(CONTRACTS) $(PAIRS)

release-check: $(INSTALLED)  ## Builds what would be released, installs it anew, and trains there
	@$(VENV)/$(PIP) install -q -e '.[release]'
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python tests/shared/release.py

failures: $(INSTALLED)  ## Lets a worker fail in every way, and prints a table
	@$(BIN)/python tests/shared/failures.py $(ARGS) 2>/dev/null

gpu: $(INSTALLED)  ## Checks on a GPU what tests check on CPUs; says so without one
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -W ignore tests/shared/gpu.py $(ARGS)

elastic: $(INSTALLED)  ## Trains on 4, 3, 1 and 2 workers in turn, and compares
	@$(BIN)/python tests/shared/elastic.py 2>/dev/null

soak: $(INSTALLED)  ## Throws faults at a training for MINUTES=30, and compares
	@mkdir -p runs; TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -W ignore \
		tests/shared/soak.py --log runs/soak.log $(MINUTES)

# One after the other.
BENCHMARKS = two_workers input input_arrays update_profile one_process \
	accumulation all_reduce update_time sharded_state collectives \
	between_steps monitor_overhead import_time compression synchronization \
	asynchronous backups quick_return start_up random_layers compiled

define measure
	@mkdir -p runs; $(BIN)/python benchmarks/peers.py torch tf_keras jax >/dev/null
	@for name in $(BENCHMARKS); do \
		printf '\n## %s\n\n' $$name; \
		$(BIN)/python benchmarks/$$name.py $(1) 2>runs/bench.log || \
			{ tail -n 30 runs/bench.log >&2; exit 1; }; \
	done
endef

bench: $(INSTALLED)  ## Measures tfdp beside its peers; wants an idle machine
	$(call measure)

bench-quick: $(INSTALLED)  ## Measures the same roughly, in minutes
	$(call measure,--quick)

# Warnings are errors, as of a link that leads nowhere.
docs: $(INSTALLED)  ## Builds the documentation into docs/_build
	@mkdir -p docs/_build
	@$(BIN)/python -m sphinx -E -q -W --keep-going -d docs/_build/doctrees \
		docs docs/_build/html 2>docs/_build/log || \
		{ cat docs/_build/log >&2; exit 1; }
	@echo docs/_build/html/index.html

exactness: $(INSTALLED)  ## Measures anew what docs/ideas/exactness.md says
	$(BIN)/python docs/exactness

lint: $(INSTALLED)  ## Checks style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@rm -rf build/rooms && mkdir -p build/rooms && cp -R tfdp build/rooms
	@cp -R callbacks build/rooms/tfdp
	cd build/rooms && ../../$(BIN)/lint-imports --no-cache ../../setup.cfg

format: $(INSTALLED)  ## Puts the sources into the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## Removes what the other targets have made
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest $(VENV)-nightly $(VENV)-torch $(VENV)-tf_keras $(VENV)-jax
	rm -rf runs/data runs/digits runs/bench.log runs/soak.log build dist *.egg-info
	rm -rf docs/_build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml
	@$(BIN)/python -c "$(IN_RANGE)" 2>/dev/null || { \
		$(if $(PYTHON),$(PYTHON) -c "$(IN_RANGE)",false) || { \
			echo "tfdp needs Python 3.11, 3.12 or 3.13 (with its venv" \
				"module). Received: $(or $(PYTHON),none of them). Install" \
				"one, or name it: make PYTHON=/path/to/python" >&2; \
			exit 1; }; \
		echo "Creating $(VENV) with $(PYTHON)"; \
		$(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing tfdp and what its tests and examples need"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

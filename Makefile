# Every target makes its own environment in .venv the first time, and again when pyproject.toml changes.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
RUN    := runs/demo
DEMO   := --hidden 256 --embedding 64 --batch 16 --steps 3600 --schedule cosine --lr 4e-3 --minutes 2

.DEFAULT_GOAL := help
.PHONY: help demo test coverage examples lint bench gallery fuzz crash mutate clean

help:  ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## train an LSTM on the embedded corpus, read what it writes, draw its graph
	$(PY) -m rnn train --run $(RUN) --overwrite $(DEMO)
	@echo; echo "How it goes on after \"The \", at temperature 0.6:"; echo
	$(PY) -m rnn sample $(RUN) --prompt "The " --temperature 0.6 --length 800 --seed 1
	$(PY) -m rnn draw $(RUN) -o $(RUN)/graph.svg
	@echo; echo "To look at, in $(RUN)/:"
	@echo "  graph.svg     the graph of the loss over three steps, as it was differentiated"
	@echo "  loss.svg      the loss over the training; metrics.jsonl has the numbers"
	@echo "  samples.txt   how the writing got better"
	@echo "To go on: $(PY) -m rnn sample $(RUN) --prompt 'The class '"

# Tests are many modules in several processes: what Python compiles is kept, whatever the environment says.
# A worker begins with its own half of the tests, so that one of them alone compiles the kernels that tests share.
PYTEST := PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 2 --dist worksteal --ignore=tests/examples

test: $(VENV)/.dev  ## run the tests
	$(PYTEST) $(ARGS)

coverage: $(VENV)/.dev  ## run the tests and say which lines they reach: 95 % of each package at least
	$(PYTEST) --cov --cov-report= $(ARGS)
	$(PY) -m coverage report --include='minigrad/*' --fail-under=95
	$(PY) -m coverage report --include='rnn/*' --fail-under=95

examples: $(VENV)/.dev  ## run the quick form of every example, and the notebook
	$(PY) -m pytest -n 2 tests/examples $(ARGS)

lint: $(VENV)/.dev  ## ruff and mypy --strict
	$(PY) -m ruff check .
	$(PY) -m mypy --strict minigrad rnn

bench: $(VENV)/.bench  ## one training step and the cost of an operation, beside other libraries
	$(PY) -m benchmarks.overhead $(ARGS)
	$(PY) -m benchmarks.step $(ARGS)

gallery: $(VENV)/.demo  ## draw every picture of examples/gallery
	$(PY) examples/gallery/build.py $(ARGS)

fuzz: $(VENV)/.dev  ## 10 000 random programs (beside PyTorch where it is installed) and 10 000 hostile files
	$(PY) -m tests.fuzz.programs --count 10000 $(ARGS)
	$(PY) -m tests.fuzz.files --count 10000 $(ARGS)

crash: $(VENV)/.dev  ## kill a training at 100 random moments, resume it, compare with one that nobody killed
	$(PY) -m tests.crash --kills 100 $(ARGS)

mutate: $(VENV)/.dev  ## change every derivative rule in many ways: a test must notice each
	$(PY) -m tests.mutate $(ARGS)

clean:  ## remove the environment, caches and build files (not runs/)
	rm -rf $(VENV) build dist *.egg-info .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of extras, all in the one environment.

$(PY):
	$(PYTHON) -m venv $(VENV)

# The demo is quicker with numba, and goes without where there is none.
$(VENV)/.demo: EXTRAS := plot,fast
$(VENV)/.demo: OTHERWISE := plot
$(VENV)/.dev: EXTRAS := dev,plot,fast,interop
$(VENV)/.bench: EXTRAS := bench,fast

$(VENV)/.demo $(VENV)/.dev $(VENV)/.bench: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[$(EXTRAS)]' $(if $(OTHERWISE),|| \
	    $(PY) -m pip install --quiet --editable '.[$(OTHERWISE)]')
	@touch $@

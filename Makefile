# make demo: the main job. make test: the tests. Both install what they need into .venv, once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-browser test-gpu check clean

demo: .venv/.demo
	$(BIN)/mixerzoo compare task=python 'mixers=[gtu,softmax,linear_elu,s4d,convolution]' seeds=3 match=parameters out=runs/demo

test: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -q tests

test-browser: .venv/.browser
	$(BIN)/python -m pytest -q tests/browser --browser

test-gpu: .venv/.test
	$(BIN)/python -m pytest -q tests/cuda tests/mixers/ops/test_transforms.py --cuda -W ignore  # triton and inductor warn of themselves

check: .venv/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# One stamp a set of packages; a change of pyproject.toml installs again.
.venv/.demo: extras =
.venv/.test: extras = [test]
.venv/.browser: extras = [browser]
.venv/.check: extras = [check]
.venv/.demo .venv/.test .venv/.browser .venv/.check: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mixerzoo needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(extras)'
	@touch $@

clean:
	rm -rf .venv dist .pytest_cache

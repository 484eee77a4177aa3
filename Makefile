PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
COLAB  := .venv-colab
CONSTRAINTS ?= constraints.txt
PIP    := -m pip install --disable-pip-version-check

.PHONY: book serve test notebooks bench lint nbval nbval-portable colab links clean

# Two threads that wait by spinning stand still for each other where anything else runs: 2 s of training became 120 s.
test notebooks nbval nbval-portable colab: export OMP_WAIT_POLICY = PASSIVE

book: $(VENV)/book  ## build both editions from the stored outputs
	$(BIN)/python book/site.py

serve: book  ## build, then serve on http://localhost:8000
	$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 8000

test: $(VENV)/test $(COLAB)/ready lint  ## everything that CI checks
	$(BIN)/pytest tests
	$(MAKE) --no-print-directory nbval nbval-portable

notebooks: $(VENV)/test  ## execute the chapters that changed and derive both editions
	$(BIN)/python book/notebooks.py

.PHONY: digests
digests: $(VENV)/book  ## state that the tests check the formulas as they are now, after a look at those that fail
	$(BIN)/python book/_ext/equations.py

NBVAL  := $(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout=600 --nbval-sanitize-with=tests/nbval-sanitize.cfg --no-header -q

nbval: $(VENV)/test  ## compare every stored output with a fresh run
	$(NBVAL) book/ko book/en

nbval-portable: export ATEN_CPU_CAPABILITY = default
nbval-portable: export OMP_NUM_THREADS = 1
nbval-portable: export MKL_NUM_THREADS = 1
nbval-portable: export MKL_CBWR = COMPATIBLE
nbval-portable: export OPENBLAS_CORETYPE = Prescott
nbval-portable: $(VENV)/test  ## the same on another CPU's arithmetic
	$(NBVAL) book/ko

colab: $(VENV)/test $(COLAB)/ready  ## run the notebooks with Colab's versions, the package installed from git
	$(BIN)/pytest tests/test_colab.py

links: $(VENV)/test book  ## ask every external link
	$(BIN)/python book/links.py

bench: $(VENV)/bench  ## the package against its peers
	$(BIN)/python tests/benchmarks.py

lint: $(VENV)/test  ## ruff and the workflows' schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# Each step of the set-up leaves a stamp, so that the second run skips it.
$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is not one. Install it, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed (on Debian and Ubuntu: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/book: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing what builds the site (about a minute, once)"
	@$(BIN)/python $(PIP) -c $(CONSTRAINTS) $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['book'])")
	@touch $@

$(VENV)/test: $(VENV)/book
	@echo "Installing the package and what its tests need (a few minutes, once)"
	@$(BIN)/python $(PIP) -c $(CONSTRAINTS) --editable '.[test]'
	@touch $@

$(VENV)/bench: $(VENV)/test
	@$(BIN)/python $(PIP) -c $(CONSTRAINTS) --editable '.[bench]'
	@touch $@

$(COLAB)/ready: $(VENV)/python tests/colab.txt constraints.txt
	@echo "Making $(COLAB) with Colab's versions (a few minutes, once)"
	@$(PYTHON) -m venv --clear $(COLAB)
	@$(COLAB)/bin/python $(PIP) -r tests/colab.txt $$(grep '^torch==' constraints.txt)
	@touch $@

clean:  ## remove what was built; the environments stay
	rm -rf _build

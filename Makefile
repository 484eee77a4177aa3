PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: book serve test notebooks bench lint nbval nbval-portable colab clean

book: $(VENV)/book  ## build both editions from the stored outputs
	$(BIN)/python book/site.py

serve: book  ## build, then serve on http://localhost:8000
	$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 8000

test: $(VENV)/test lint  ## everything that CI checks
	$(BIN)/pytest tests
	$(MAKE) --no-print-directory nbval nbval-portable colab

notebooks: $(VENV)/test  ## execute the chapters that changed and derive both editions
	$(BIN)/python book/notebooks.py

nbval: $(VENV)/test  ## compare every stored output with a fresh run
	$(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout=120 --no-header book/ko book/en

nbval-portable: export ATEN_CPU_CAPABILITY = default
nbval-portable: export OMP_NUM_THREADS = 1
nbval-portable: export MKL_NUM_THREADS = 1
nbval-portable: export MKL_CBWR = COMPATIBLE
nbval-portable: export OPENBLAS_CORETYPE = Prescott
nbval-portable: $(VENV)/test  ## the same on another CPU's arithmetic
	$(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout=120 --no-header book/ko

bench: $(VENV)/test
	$(BIN)/python tests/benchmarks.py

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Each step of the set-up leaves a stamp, so that the second run skips it.
$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is not one. Install it, or name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed (on Debian and Ubuntu: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/book: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing what builds the site (about a minute, once)"
	@$(PIP) $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['book'])")
	@touch $@

$(VENV)/test: $(VENV)/book
	@echo "Installing the package and what its tests need (a few minutes, once)"
	@$(PIP) --editable '.[test]'
	@touch $@

clean:
	rm -rf _build

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
COLAB  := .venv-colab
KERNEL := $(COLAB)/share/jupyter/kernels/colab/kernel.json
CONSTRAINTS ?= constraints.txt
PIP    := -m pip install --disable-pip-version-check --no-compile

.PHONY: book serve check test korean english notebooks evidence digests errors bench versions gpu lint nbval colab links audit heights picture pdf writer clean environments

# Two processes with one thread each: threads of several processes that wait for each other by spinning stand still.
PYTEST := $(BIN)/pytest -q
TESTS  := $(PYTEST) --numprocesses=2 --dist=worksteal
CELLS  := --numprocesses=2 --dist=loadscope
check test notebooks evidence errors versions nbval colab korean english: export OMP_NUM_THREADS = 1
check test notebooks evidence errors versions nbval colab korean english: export MKL_NUM_THREADS = 1

# $(call part,what it does,command): say so, and how long it took.
part = @echo "== $(1)"; start=$$(date +%s); $(2) && echo "== $(1): $$(($$(date +%s) - start)) s"

book: $(VENV)/book  ## build both editions from the stored outputs
	$(BIN)/python book/site.py

serve: book  ## build, then serve on http://localhost:8000
	$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 8000

check: $(VENV)/test  ## while writing: lint, the quick tests, the editions' consistency
	$(call part,lint,$(LINT))
	$(call part,quick tests,$(TESTS) -m "not slow" tests)

test: environments  ## everything that CI checks
	$(call part,lint,$(LINT))
	$(call part,tests: package and formulas and site,$(TESTS) tests)
	$(call part,notebooks: Korean and English (with Colab's versions and another machine's arithmetic),$(MAKE) --no-print-directory --jobs=2 korean english)

# Side by side, two processes each: whichever edition takes longer has both cores in the end.
korean:
	$(KOREAN) $(CELLS)

english:
	$(ENGLISH) $(CELLS)

notebooks: $(VENV)/test  ## execute the chapters that changed and derive both editions
	$(BIN)/python book/notebooks.py

evidence: $(VENV)/test  ## what a chapter's bounds rest on: make evidence CHAPTER=03-vae
	$(BIN)/python book/evidence.py $(CHAPTER)

writer: $(VENV)/test  ## train the network that writes names on the first page (up to an hour of a core)
	$(BIN)/python book/writer.py

digests: $(VENV)/book  ## state that the tests check the formulas as they are now, after a look at those that fail
	$(BIN)/python book/_ext/equations.py

errors: $(VENV)/test  ## measure how closely the tests confirm each formula, for the list of formulas
	$(PYTEST) -m equation --record-errors tests

NBVAL := $(PYTEST) --nbval --nbval-cell-timeout=600 --nbval-sanitize-with=tests/nbval-sanitize.cfg --no-header
KOREAN := $(NBVAL) --nbval-current-env book/ko
# Another CPU's arithmetic: it changes the last digits, and with them everything that trains.
ENGLISH := ATEN_CPU_CAPABILITY=default OPENBLAS_CORETYPE=Prescott JUPYTER_PATH=$(COLAB)/share/jupyter \
  $(NBVAL) --nbval-kernel-name=colab book/en

nbval: $(VENV)/test  ## compare the stored outputs of the Korean edition with a fresh run
	$(KOREAN) $(CELLS)

colab: environments  ## those of the English one: Colab's versions, the package from git, other arithmetic
	$(PYTEST) tests/test_colab.py
	$(ENGLISH) $(CELLS)

links: $(VENV)/test book  ## ask every external link
	$(BIN)/python book/links.py

audit: $(VENV)/test book  ## Lighthouse and axe on every page, against book/budget.toml: make audit RUNS=3 PAGES="ko/03-vae en/index"
	$(BIN)/python book/audit.py --runs $(or $(RUNS),1) $(PAGES)

heights: $(VENV)/test book  ## measure the live figures, so that pages keep their place free while they load
	$(BIN)/python book/heights.py

picture: $(VENV)/test book  ## draw the READMEs' picture of the site, and live figures as they are without JavaScript
	$(BIN)/python book/picture.py

pdf: $(VENV)/test book  ## each edition as one PDF, offered on its first page
	$(BIN)/python book/pdf.py

bench: $(VENV)/bench  ## the package against its peers, for a page of the book: make bench SECTIONS="ppca-fit vae-digits"
	$(BIN)/python tests/benchmarks.py $(SECTIONS)

# The quick tests on the package's wheel, in an environment of its own: its name, and what pip is told of versions.
with_versions = $(PYTHON) -m venv --clear .venv-$(1) && \
  .venv-$(1)/bin/python -m pip wheel --quiet --no-deps --wheel-dir .venv-$(1)/wheel . && \
  .venv-$(1)/bin/python $(PIP) --quiet $(2) "$$(echo .venv-$(1)/wheel/*.whl)[test]" && \
  .venv-$(1)/bin/pytest -q -m "not slow" tests

versions: $(VENV)/python  ## the quick tests of the wheel with the oldest versions that it supports, and the newest
	$(call part,oldest versions,$(call with_versions,oldest,-c tests/oldest.txt))
	$(call part,newest versions,$(call with_versions,newest,))

# Installs nothing, so that it runs on a machine that has torch and no network; name its Python by PYTHON.
gpu: export PYTHONPATH = .
gpu:  ## every test that takes a device on CUDA, then training steps a second
	$(PYTHON) -m pytest -q --device cuda $(shell grep -l "device: torch.device" tests/test_*.py)
	$(PYTHON) tests/benchmarks.py gpu

LINT = $(BIN)/ruff check . && $(BIN)/ruff format --check . && \
  $(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

lint: $(VENV)/test  ## ruff and the workflows' schema
	$(LINT)

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

# Side by side: each keeps one core busy.
environments: $(VENV)/python
	@$(MAKE) --no-print-directory --jobs=2 $(VENV)/test $(KERNEL)

$(VENV)/bench: $(VENV)/test
	@$(BIN)/python $(PIP) -c $(CONSTRAINTS) --editable '.[bench]'
	@touch $@

$(KERNEL): $(VENV)/python tests/colab.txt constraints.txt
	@echo "Making $(COLAB) with Colab's versions (a few minutes, once)"
	@$(PYTHON) -m venv --clear $(COLAB)
	@$(COLAB)/bin/python $(PIP) -r tests/colab.txt $$(grep '^torch==' constraints.txt)
	@$(COLAB)/bin/python -m ipykernel install --prefix $(COLAB) --name colab >/dev/null

clean:  ## remove what was built; the environments stay
	rm -rf _build

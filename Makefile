# make book   render the committed, executed chapters into _build/html (no torch needed)
# make test   everything that CI runs
# make lab    open JupyterLab on the book
# make serve  look at the rendered book in a browser through a local server
# make clean  remove what the other targets made
#
# Each target works on a fresh machine with Python 3.11 or 3.12 and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STEP := @$(PYTHON) tools/step.py
PYTEST := $(PY) -m pytest -q -n 2 --dist loadfile
PORT ?= 8000

# another busy process makes spinning OpenMP threads ten times slower than sleeping ones
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help book test lab serve clean lock
help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# One environment in two sizes: what rendering needs, or everything.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v in ((3, 11), (3, 12)) else f"Python 3.11 or 3.12 is needed, {v[0]}.{v[1]} was found: make PYTHON=python3.12 ...")'
	$(STEP) "Making the environment $(VENV)" $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.book: $(VENV)/.made pyproject.toml requirements.lock
	$(STEP) "Installing what rendering needs (no torch)" sh -c \
	  '$(PY) tools/requirements.py book > $(VENV)/book.txt && $(PY) -m pip install -q --disable-pip-version-check -c requirements.lock -r $(VENV)/book.txt'
	@touch $@

$(VENV)/.all: $(VENV)/.made pyproject.toml requirements.lock
	$(STEP) "Installing everything, torch included" \
	  $(PY) -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[all]'
	@touch $(VENV)/.book $@

book: $(VENV)/.book
	$(STEP) "Rendering the committed chapters into _build/html" $(PY) tools/build_book.py
	@$(PYTHON) tools/step.py --summary
	@echo "Open _build/html/index.html in a browser."

test: $(VENV)/.all
	$(STEP) "Checking style" sh -c '$(BIN)/ruff check . && $(BIN)/ruff format --check .'
	$(STEP) "Checking chapters and ledger" $(BIN)/biglearn book check
	$(STEP) "Rendering the book" $(PY) tools/build_book.py
	$(STEP) "Testing the package and the book as an artefact" \
	  $(PYTEST) -m "not browser and not lab" tests
	$(STEP) "Validating the chapters with nbval" $(PYTEST) --nbval book
	$(STEP) "Validating them again: no extra data, one thread, another CPU path" \
	  env -u BIGLEARN_DATA ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 \
	  $(PYTEST) --nbval book
	$(STEP) "Running every chapter by papermill at smoke, network blocked" \
	  $(BIN)/biglearn book run --profile smoke
	$(STEP) "Opening every page in a headless browser, network blocked" \
	  $(PYTEST) -rs -m browser tests
	$(STEP) "Dragging and painting in a headless JupyterLab" \
	  $(PY) -m pytest -q -rs -m lab tests
	@$(PYTHON) tools/step.py --summary

lab: $(VENV)/.all
	cd book && ../$(BIN)/jupyter lab

serve: book
	@echo "The book is at http://127.0.0.1:$(PORT) until you press Ctrl-C."
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lock: $(VENV)/.all
	$(PY) -m pip install -q uv
	$(BIN)/uv pip compile -q pyproject.toml --all-extras --universal \
	  --python-version 3.11 --no-header --no-annotate -o _build/requirements.lock
	@(sed -n '1,2p' requirements.lock; cat _build/requirements.lock) > _build/lock
	@mv _build/lock requirements.lock

clean:
	rm -rf _build _vendor .pytest_cache .ruff_cache .hypothesis
	@echo "Kept $(VENV); remove it by hand if you want a new environment."

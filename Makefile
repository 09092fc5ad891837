# The commands of this repository. They need Python 3.11 and make. Only `make images` needs docker or podman.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_ARGS ?=
RUN_ARGS ?=
BENCH_ARGS ?=
TEST_ARGS ?=
EVENTS ?= 5000000
SHARED ?=
REGISTRY ?=
BEFORE ?=
AFTER ?= HEAD
# The first that answers: docker's client without its daemon builds nothing.
ENGINE ?= $(shell for e in docker podman; do $$e info >/dev/null 2>&1 && echo $$e && break; done)
GPU ?=
SPARK ?=
PUSH ?=
BUILD_ARGS ?=
PUSH_ARGS ?=
FIGURES ?=

.PHONY: help install run serve stop status compile test check lint types imports dead-code docs manifests bench-serving bench-events bench-pipeline bench-decision-log fuzz-serving bench-quality bench-training bench-campaigns bench-accidents bench-ingest bench-features bench-features-large bench-decision bench-monitoring bench-policy bench-portraits bench-ablation bench-compression bench-gpu prove-unchanged test-gpu images test-images bench-images e2e clean distclean

help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | awk -F'\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'
	@echo
	@echo "  PIP_ARGS=…  more arguments for pip (for the CPU build of torch see README)   ·   RUN_ARGS=…  arguments for 'recommender run'"

install: $(INSTALLED) ## create .venv with the pinned packages of constraints.txt; does nothing if it is up to date

$(INSTALLED): pyproject.toml constraints.txt clients/python/pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "make: Python 3.11 is needed, and '$(PYTHON)' is not. Choose one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation $(PIP_ARGS) -c constraints.txt \
	  -e '.[serving,pipeline,text,data,cli,dev]' -e clients/python
	@touch $@

run: $(INSTALLED) ## run the full pipeline once: data, training, verdict, answers of the real endpoint for three shoppers
	$(BIN)/recommender run $(RUN_ARGS)

serve: $(INSTALLED) ## start the endpoint (gateway on 127.0.0.1:8000); Ctrl-C or `make stop` stops it
	$(BIN)/recommender serve

stop: $(INSTALLED) ## stop the endpoint that `make serve` started
	$(BIN)/recommender stop

status: $(INSTALLED) ## show which versions serve, since when, from which data and configuration
	$(BIN)/recommender status

compile: $(INSTALLED) ## write the pipeline for a cluster to dist/
	$(BIN)/recommender compile

# MLServer stands for the servers of the Open Inference Protocol in tests. What it shares with us comes from $(VENV).
MLSERVER := .venv-mlserver
# PySpark's 470 MB stay out of $(VENV), so that nothing but the `spark` extra can need them. Its source package becomes a
# wheel without compression, which halves the time.
PYSPARK := .venv-spark
test: $(INSTALLED) $(MLSERVER)/.installed $(PYSPARK)/.installed ## run all tests in three processes of one thread each; tests start the servers that they need
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

test-gpu: $(INSTALLED) ## run the tests that need a GPU; without a GPU they are skipped
	$(BIN)/python -m pytest -rs tests/gpu || [ $$? -eq 5 ]

check: lint types imports dead-code docs manifests ## check format, lint, types, import contracts, dead code, documentation and manifests

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

dead-code: $(INSTALLED)
	$(BIN)/python .ci/dead_code.py

docs: $(INSTALLED) ## build the documentation site into dist/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# checkov needs other versions of shared packages, so it has a separate environment.
TOOLS := .venv-tools
$(TOOLS)/.installed: k8s/tools.txt
	@[ -x $(TOOLS)/bin/python ] || "$(PYTHON)" -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r k8s/tools.txt
	@touch $@

$(MLSERVER)/.installed: tests/mlserver.txt $(INSTALLED)
	@[ -x $(MLSERVER)/bin/python ] || $(BIN)/python -m venv --without-pip $(MLSERVER)
	@$(BIN)/python -c 'import site, sys; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
	  > $(MLSERVER)/lib/python3.11/site-packages/shared.pth
	$(MLSERVER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile $(PIP_ARGS) -r tests/mlserver.txt
	@touch $@

$(PYSPARK)/.installed: pyproject.toml constraints.txt $(INSTALLED)
	@[ -x $(PYSPARK)/bin/python ] || $(BIN)/python -m venv --without-pip $(PYSPARK)
	$(BIN)/python -m pip --python $(PYSPARK) install --quiet --disable-pip-version-check --no-deps --no-compile --use-pep517 $(PIP_ARGS) \
	  --config-settings=--build-option=--compression=stored -c constraints.txt pyspark py4j
	@touch $@

manifests: $(INSTALLED) $(TOOLS)/.installed ## render and check k8s/ (SHARED=../shared also checks custom resources against their CRDs)
	$(if $(SHARED),CRDS="$(SHARED)/crds") $(BIN)/python -m pytest tests/manifests

bench-serving: $(INSTALLED) ## latency against a no-op TorchServe handler; overload, harmful clients, rolling restart: BENCH_ARGS="--seconds 60 --groups overload"
	$(BIN)/python -m benchmarks.serving; latency=$$?; \
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serving_load $(BENCH_ARGS) && exit $$latency

bench-events: $(INSTALLED) ## events over HTTP: time until an answer knows one, events lost by ten killed gateways, cost of a read
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.events $(BENCH_ARGS)

bench-pipeline: $(INSTALLED) ## which of four runs that cannot succeed the pipeline's first step refuses in one sentence, and its time
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.pipeline

bench-decision-log: $(INSTALLED) ## answers while the decision log's disk hangs, and a query over many decisions: BENCH_ARGS="--decisions 50000000"
	$(BIN)/python -m benchmarks.decision_log $(BENCH_ARGS)

fuzz-serving: $(INSTALLED) ## wrong and hostile requests to a small shop's endpoint: 5,000 cases of schemathesis, 50,000 mutated requests; BENCH_ARGS="--seed 2"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serving_fuzz $(BENCH_ARGS)

bench-quality: $(INSTALLED) ## next-item rankers on ML-1M and Amazon Beauty: SHARED=… with data/; BENCH_ARGS="--rankers fusion --seeds 1,2"
	$(BIN)/python -m benchmarks.quality $(if $(SHARED),"$(SHARED)/data") $(BENCH_ARGS)

bench-campaigns: $(INSTALLED) ## every ranker and LightGBM on the campaign task; BENCH_ARGS="--rankers a,b" selects rankers
	$(BIN)/python -m benchmarks.campaigns $(BENCH_ARGS)

bench-training: $(INSTALLED) ## training speed: full-softmax targets per CPU-second, against a reference, RePlay, RecTools and RecBole: SHARED=… with data/ml-1m
	$(BIN)/python -m benchmarks.training $(if $(SHARED),"$(SHARED)/data") $(BENCH_ARGS)

bench-accidents: $(INSTALLED) ## accidents in a seasonal shop's export: which of 30 validation notices, and false alarms on 100 good days
	$(BIN)/python -m benchmarks.accidents $(BENCH_ARGS)

bench-ingest: $(INSTALLED) ## CPU-seconds and peak memory of reading and checking 5 M events; EVENTS=100000000 reads Parquet under 4 GiB
	$(BIN)/python -m benchmarks.ingest --events $(EVENTS) $(BENCH_ARGS)

bench-features: $(INSTALLED) ## cost of building features and of the feature store; BENCH_ARGS="--groups journey,point_in_time,scale"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.features $(BENCH_ARGS)

bench-features-large: $(INSTALLED) ## a hundred million events, half an hour and 25 GB of disk; BENCH_ARGS="--events 20000000 --scratch /disk"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.features_large $(BENCH_ARGS)

bench-decision: $(INSTALLED) ## wrong decisions and answers: error rates of the gate, intervals, horizon, answers of a run; BENCH_ARGS="--groups gate,answers"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.decision $(BENCH_ARGS)

bench-monitoring: $(INSTALLED) ## how often monitoring calls an unchanged shop drifted or miscalibrated, and how often it finds a change
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.monitoring $(BENCH_ARGS)

bench-portraits: $(INSTALLED) ## the portrait's forecasts against what came, and what its facts and looks give a ranker; BENCH_ARGS="--groups looks"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.portraits $(BENCH_ARGS)

bench-policy: $(INSTALLED) ## the policy head in worlds with known true values, and how often the intervals of its estimates contain them
	$(BIN)/python -m benchmarks.policy $(BENCH_ARGS)

bench-ablation: $(INSTALLED) ## ablation of the flagship: what each part adds; SHARED=… with data/; BENCH_ARGS=--members for parts of its transformers
	$(BIN)/python -m benchmarks.ablation $(if $(SHARED),"$(SHARED)/data") $(BENCH_ARGS)

bench-compression: $(INSTALLED) ## size, latency and quality of the flagship, its student, int8 and exported programs: SHARED=… with data/
	$(BIN)/python -m benchmarks.compression $(if $(SHARED),"$(SHARED)/data") $(BENCH_ARGS)

bench-gpu: $(INSTALLED) ## tokens per second and MFU of training on a GPU, compared with attention alone and one matrix product; BENCH_ARGS="--lengths 256,4096"
	$(BIN)/python -m benchmarks.gpu $(BENCH_ARGS)

prove-unchanged: $(INSTALLED) ## run two commits on the same inputs; compare weights, answers, figures: BEFORE=15228d7 AFTER=HEAD; BENCH_ARGS="--cache DIR --parts weights"
	@[ -n "$(BEFORE)" ] || { echo "make prove-unchanged: BEFORE is not set. Name the commit before the change: make prove-unchanged BEFORE=main AFTER=HEAD" >&2; exit 2; }
	$(BIN)/python -m benchmarks.nothing_moved "$(BEFORE)" "$(AFTER)" --pip-args="$(PIP_ARGS)" $(BENCH_ARGS)

images: ## build the images: make images REGISTRY=registry.example.com; GPU=1 also the GPU's, SPARK=1 also Spark's; PUSH=1 pushes and writes digests; BUILD_ARGS, PUSH_ARGS
	@[ -n "$(REGISTRY)" ] || { echo "make images: REGISTRY is not set. Name the registry: make images REGISTRY=registry.example.com" >&2; exit 2; }
	@[ -n "$(ENGINE)" ] || { echo "make images: neither docker nor podman answers. Start or install one, or set ENGINE=/path/to/engine" >&2; exit 2; }
	@"$(PYTHON)" -m components.build_images "$(REGISTRY)" --engine "$(ENGINE)" $(if $(GPU),--gpu) $(if $(SPARK),--spark) $(if $(PUSH),--push) \
	  --build-args="$(BUILD_ARGS)" --push-args="$(PUSH_ARGS)"

test-images: $(INSTALLED) ## build both images and run every command of the manifests and every step in them; without docker or podman it is skipped
	ENGINE="$(ENGINE)" BUILD_ARGS="$(BUILD_ARGS)" FIGURES="$(FIGURES)" $(BIN)/python -m pytest -rs tests/containers $(TEST_ARGS) || [ $$? -eq 5 ]

e2e: $(INSTALLED) ## the whole way on the kubeconfig's cluster: make e2e KFP=http://127.0.0.1:8888 REGISTRY=…; DRY=1 prints its steps (docs/operations.md)
	@PATH="$(CURDIR)/$(BIN):$$PATH" REGISTRY="$(REGISTRY)" bash tests/e2e_cluster/run.sh

bench-images: ## what `make test-images` measures: new layers after a code change, seconds to stop
	$(MAKE) test-images FIGURES=reports/bench/images.json

clean: ## stop the endpoint and delete the results of runs (var/, dist/, caches); keeps .venv
	@[ ! -x $(BIN)/recommender ] || [ ! -d var ] || $(BIN)/recommender stop
	rm -rf var dist logs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf

distclean: clean ## `clean`, and delete .venv too
	rm -rf $(VENV) $(TOOLS) $(MLSERVER) $(PYSPARK)

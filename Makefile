# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-system test-slow test-all coverage check bench bench-secagg bench-inference bench-dp bench-privacy bench-utility bench-evidence bench-search fuzz federation federation-containers encrypted-inference docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

install: $(STAMP)  ## make .venv and install everything into it

# The lock lets two `make` start at once; the second waits and finds the work done.
$(STAMP): pyproject.toml
	@mkdir -p $(VENV) && flock $(VENV)/.lock $(MAKE) --no-print-directory -s install-locked

.PHONY: install-locked
install-locked:
	@if [ ! -f $(STAMP) ] || [ pyproject.toml -nt $(STAMP) ]; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; set PYTHON=python3.12")' && \
	  $(PYTHON) -m venv $(VENV) && \
	  echo "installing into $(VENV) (about 2 GB, a minute or two) ..." >&2 && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev,docs]' && \
	  touch $(STAMP); fi

demo: install  ## three simulated hospitals on synthetic radiographs, then a report (under 3 minutes)
	@$(BIN)/primia train experiment=demo $(ARGS)

federation: install  ## a real SuperLink and three real SuperNodes on loopback, over TLS
	@$(BIN)/primia federation trial experiment=demo federation.rounds=3 $(ARGS)

federation-containers:  ## the same in one hardened container without a network (docker or podman)
	@engine=; for one in podman docker; do if $$one info >/dev/null 2>&1; then engine=$$one; break; fi; done; \
	if [ -z "$$engine" ]; then echo "error: no container engine answers; expected podman or docker, running: start one, or use make federation" >&2; exit 1; fi; \
	$$engine build -f deploy/containers/Containerfile -t primia-flwr:0.1.0 . && \
	$$engine run --rm --network none --read-only --user 10001:10001 --cap-drop ALL --security-opt no-new-privileges \
	  --tmpfs /tmp --tmpfs /work:mode=1777 primia-flwr:0.1.0 \
	  primia federation trial experiment=demo federation.rounds=3 $(ARGS)

encrypted-inference: install  ## three processes over TLS classify images that two of them never see
	@$(BIN)/primia inference trial $(ARGS)

test: install  ## the tests, a file at a time on each of two cores
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-system: install  ## whole systems of real processes: federations, encrypted inference, kills
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "system and not slow" $(ARGS)

test-slow: install  ## the slow tests alone: whole systems with kills, thousands of changed messages
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

test-all: test test-system test-slow  ## all tests

coverage: install  ## the tests again, measured: lines and branches by room (half as long again)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=json:coverage.json $(ARGS)
	@$(BIN)/python -m tests.coverage_rooms coverage.json

check: install  ## ruff, mypy --strict, import contracts, every YAML of conf/
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m primia_flwr.cli.verify_conf

bench: install  ## measure: training throughput against a bare loop, seconds outside training
	@$(BIN)/python -m primia_bench.training.throughput $(ARGS)
	@$(BIN)/python -m primia_bench.training.round_overhead

bench-secagg: install  ## measure secure aggregation: exactness, bytes, masking, rounds, growth, dropouts
	@$(BIN)/python -m primia_bench.secagg.protocol --output benchmarks/results/secagg_protocol.json
	@$(BIN)/python -m primia_bench.secagg.federation_rounds --output benchmarks/results/secagg_rounds.json
	@$(BIN)/python -m primia_bench.secagg.small_federations --output benchmarks/results/small_federations.json

bench-inference: install  ## measure encrypted inference: latency by delay and rate, bytes, memory, both protocols
	@$(BIN)/python -m primia_bench.inference.latency --output benchmarks/results/inference.json $(ARGS)
	@$(BIN)/python -m primia_bench.inference.watch --output benchmarks/results/inference_watch.json
	@$(BIN)/python -m primia_bench.inference.memory --output benchmarks/results/inference_memory.json
	@$(BIN)/python -m primia_bench.inference.flood --output benchmarks/results/inference_flood.json

bench-dp: install  ## measure differential privacy: images/s and memory of each clipping engine
	@$(BIN)/python -m primia_bench.privacy.cost --output benchmarks/results/dp_cost.json $(ARGS)

bench-privacy: install  ## measure differential privacy: the accountant, the audit (minutes)
	@$(BIN)/python -m primia_bench.privacy.accounting --output benchmarks/results/privacy_accounting.json
	@$(BIN)/python -m primia_bench.privacy.audit --output benchmarks/results/dp_audit.json
	@$(BIN)/python -m primia_bench.privacy.generalisation_gap --output benchmarks/results/generalisation_gap.json

bench-utility: install  ## measure differential privacy: quality by epsilon on the radiographs (DATA=…; an hour or more)
	@$(BIN)/python -m primia_bench.privacy.utility --data $(DATA) --arms norm scratch --output benchmarks/results/dp_utility.json
	@$(BIN)/python -m primia_bench.privacy.utility --data $(DATA) --arms pretrained head --seeds 1 --epsilons 0 3 --ablations --output benchmarks/results/dp_utility.json
	@$(BIN)/python -m primia_bench.privacy.utility --data $(DATA) --arms norm_free scratch_fast --epsilons 3 --output benchmarks/results/dp_utility_norm_free.json
	@$(BIN)/python -m primia_bench.privacy.then_encrypted --data $(DATA) --output benchmarks/results/private_then_encrypted.json

bench-evidence: install  ## measure: coverage of the intervals, Table 1, both attacks (DATA=folder of the radiographs; hours)
	@$(BIN)/python -m primia_bench.training.interval_coverage --output benchmarks/results/interval_coverage.json
	@$(BIN)/python -m primia_bench.training.table_one --data $(DATA) --rounds 36 training.sync_every_n_batches=38 --output benchmarks/results/table_one.json
	@$(BIN)/python -m primia_bench.attacks.membership --data $(DATA) --output benchmarks/results/membership.json
	@$(BIN)/python -m primia_bench.attacks.inversion --data $(DATA) --work outputs/inversion --output benchmarks/results/inversion.json iterations=400
	@$(BIN)/python -m primia_bench.attacks.inversion --data $(DATA) --work outputs/inversion --norm batch --arms batch --output benchmarks/results/inversion_batch_norm.json iterations=400 images=6
	@$(BIN)/python -m primia_bench.attacks.crafted_model --data $(DATA) --work outputs/crafted --output benchmarks/results/crafted_model.json images=3 iterations=400
	@$(BIN)/python -m primia_bench.attacks.norm_ranges --data $(DATA) --output benchmarks/results/norm_ranges.json
	@$(BIN)/python -m primia_bench.attacks.norm_ranges --data $(DATA) --server-adam --output benchmarks/results/norm_ranges_server_adam.json

bench-search: install  ## measure: federated search against random search and the default (DATA=…; about half an hour)
	@$(BIN)/python -m primia_bench.training.search --data $(DATA) --output benchmarks/results/search.json

fuzz: install  ## ten minutes of changed files and messages into everything that reads them
	@$(BIN)/python -m tests.fuzz.loaders --seconds 300 $(ARGS)
	@$(BIN)/python -m tests.fuzz.images --files 20000
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' || true
	@if $(BIN)/python -c 'import atheris' 2>/dev/null; then \
	  $(BIN)/python -m tests.fuzz.fuzz_wire --seconds 240; \
	else echo "no atheris here: the messages were changed without the guidance of coverage" >&2; fi

docs: install  ## the documentation as a site, with search and the Python API: build/docs/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo 'build/docs/index.html; with the search: python3 -m http.server -d build/docs'

clean:  ## remove outputs and caches (not .venv)
	rm -rf build/docs outputs multirun .primia .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* coverage.json

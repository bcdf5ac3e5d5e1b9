# `make` lists what there is. Flags for the program go in ARGS: make run ARGS="--reset --nats-port 4222"

CARGO ?= cargo
PYTHON ?= python3
ARGS ?=
SECONDS ?= 60
SEED ?=
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
SURREALDB_SERVER := $(TARGET)/server/surrealdb-server
# The program that clusters are made of; PROGRAM=$(TARGET)/release/headwater takes the optimised one.
PROGRAM ?= $(TARGET)/debug/headwater
CLUSTER = --headwater "$(PROGRAM)" --surrealdb "$(SURREALDB_SERVER)" --nats-server "$(NATS_SERVER)" $(if $(SECURE),--secure)
NATS_SERVER = $(firstword $(wildcard $(CURDIR)/.tools/nats-server) nats-server)

.DEFAULT_GOAL := help
.PHONY: help run cluster cluster-stop chaos-cluster test test-shared test-http test-programs test-browser test-clients check-deploy chaos lint advisories release wheel image check-image tools surrealdb-server clean-data

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

run: tools ## build, and run everything on this machine (ARGS: flags of `headwater dev`)
	$(CARGO) build
	@$(CARGO) run --quiet -- dev $(ARGS)

cluster: tools surrealdb-server ## start a cluster on this machine: 3 NATS servers, 3 replicas, SurrealDB (SECURE=1: closed)
	$(CARGO) build
	@$(PYTHON) tools/cluster run $(CLUSTER) $(ARGS)

cluster-stop: ## end the cluster that runs in data/cluster
	@$(PYTHON) tools/cluster stop

chaos-cluster: tools surrealdb-server ## take everything of a cluster in turn, under load (SECONDS, SEED, ONLY="roll nats", SECURE=1)
	$(CARGO) build
	$(PYTHON) tools/cluster chaos $(CLUSTER) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)") $(ARGS)

test: tools surrealdb-server ## run all tests, against real servers (ARGS: a filter, or flags of `cargo test`)
	$(CARGO) test --workspace $(ARGS)
	$(if $(ARGS),,@$(MAKE) --no-print-directory test-shared test-http test-programs test-clients)

chaos: tools surrealdb-server ## crash and other-log tests for longer (SECONDS each; SEED repeats a run's chances)
	HEADWATER_CHAOS_SECONDS=$(SECONDS) HEADWATER_CHAOS_SEED=$(SEED) \
	  $(CARGO) test --test it -- crash:: linearizability:: sales:: processes::orders_end other_log::chaos command_load::the_hand_over --nocapture --test-threads 1 $(ARGS)
	HEADWATER_CHAOS_SECONDS=$(SECONDS) HEADWATER_CHAOS_SEED=$(SEED) \
	  $(CARGO) test --lib -- projection::tests::chaos --nocapture

surrealdb-server: ## build the SurrealDB server that tests start (some minutes, once)
	@CARGO_TARGET_DIR="$(TARGET)" \
	  $(CARGO) build --locked --profile server --manifest-path tools/surrealdb-server/Cargo.toml

test-shared: tools surrealdb-server ## run the tests of views once more, on a SurrealDB server
	$(PYTHON) tools/with_surrealdb_server.py "$(SURREALDB_SERVER)" -- \
	  $(CARGO) test --lib -- projection:: read_model::

test-http: tools ## check the gateway of a running mart against the description that it serves
	$(CARGO) build
	$(PYTHON) tools/check_http_api.py "$(TARGET)/debug/headwater" --no-color

test-programs: tools ## check the programs of other domains: the example, and what `headwater new` writes
	$(PYTHON) tools/check_programs.py "$(TARGET)"

test-browser: tools ## check shop and console in Chromium (fetches it on Debian; ARGS: test files, --pictures)
	$(CARGO) build
	$(PYTHON) tools/check_browser.py "$(TARGET)/debug/headwater" $(ARGS)

test-clients: tools ## check the clients in examples/, and /asyncapi.json against its schema (npm, pip, Go of Debian)
	$(CARGO) build
	$(PYTHON) tools/check_clients.py "$(TARGET)/debug/headwater"

check-deploy: tools ## check alerts, dashboards, the chart, compose files and scripts (fetches its tools on Debian)
	@$(PYTHON) tools/check_deploy.py "$(PROGRAM)"

lint: ## check format, clippy without warnings, the dependency rule, the shape of the code, and what dependencies may be
	@$(CARGO) fmt --version >/dev/null 2>&1 || { echo "rustfmt is missing; add it with: rustup component add rustfmt" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || { echo "clippy is missing; add it with: rustup component add clippy" >&2; exit 1; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --quiet --lib dependency_rule
	@$(PYTHON) tools/check_shape.py
	@$(PYTHON) tools/cargo_deny.py --log-level error check --hide-inclusion-graph licenses bans sources

advisories: ## look up what is known to be wrong with dependencies (asks the RustSec database on the network)
	@$(PYTHON) tools/cargo_deny.py check advisories

release: ## build the optimised binary, target/release/headwater, and what it is made of (CycloneDX) beside it
	$(CARGO) build --release
	$(PYTHON) tools/sbom.py "$(TARGET)/release/headwater.cdx.json"

wheel: ## build the program as a wheel, dist/headwater-….whl, and try it in a bare environment (WHEEL=--debug: unoptimised)
	$(PYTHON) tools/check_wheel.py build dist $(WHEEL)
	$(PYTHON) tools/check_wheel.py try "$$(ls -t dist/headwater-*.whl | head -1)"

image: release ## build the container image, dist/headwater-image.tar, of the optimised binary (takes buildah)
	$(PYTHON) tools/image.py build "$(TARGET)/release/headwater" dist/headwater-image.tar

check-image: tools ## build the image twice, compare, and run it on a read-only root (PROGRAM: of which program)
	$(if $(filter $(TARGET)/debug/headwater,$(PROGRAM)),$(CARGO) build)
	$(PYTHON) tools/image.py check "$(PROGRAM)"

tools: ## install nats-server in .tools/ unless a good one is on PATH
	@$(PYTHON) tools/install_nats_server.py

clean-data: ## remove ./data, where `make run` keeps everything
	rm -rf data

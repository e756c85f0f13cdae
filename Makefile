# SPDX-License-Identifier: Apache-2.0
# Everything a developer or CI does has a target here; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# One cache folder for tools and builds, so that a fresh clone is not a cold build.
export ODRADEK_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/odradek
export CARGO_TARGET_DIR ?= $(ODRADEK_CACHE)/target
export CARGO_TERM_PROGRESS_WHEN ?= never

.PHONY: help
help: ## Lists these targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: run
run: setup-base ## Builds and starts a broker on this machine (odradek dev); ends with Ctrl-C.
	cargo build --release --locked -p odradek
	@exec $(CARGO_TARGET_DIR)/release/odradek dev $(ARGS)

.PHONY: test
test: setup-test ## All quick tests: unit, property, codec, crash, real clients, operator on a real API server.
	setup/test

.PHONY: model
model: setup-base ## Searches the states of the coordination model, up to ODRADEK_STATES for each of its bounds.
	cargo test --locked --release -p odradek-sim --test model -- --ignored --nocapture

.PHONY: sim
sim: setup-base ## Runs 10,000 random histories of the quorum, then finds every planted mistake; 10,000 of whole clusters.
	ODRADEK_SEEDS=$(or $(SEEDS),0..10000) cargo test --locked --release -p odradek-sim --test quorum -- --include-ignored --nocapture
	ODRADEK_CLUSTER_SEEDS=$(or $(SEEDS),0..10000) cargo test --locked --release -p odradek-sim --test cluster -- --nocapture

.PHONY: sim-mistakes
sim-mistakes: setup-base ## Looks for every planted mistake of replicas and controller in histories of clusters; ODRADEK_MISTAKE=part of a name.
	cargo test --locked --release -p odradek-sim --test cluster -- --ignored --nocapture

.PHONY: e2e
e2e: setup-e2e images ## Scenarios on a real multi-node Kubernetes with real pods.
	cargo test --locked -p odradek-e2e --features kubernetes -- --test-threads=1

.PHONY: check-outages
check-outages: setup-test ## Brokers, API server and network fail in every way we know, while clients write; ARGS=name.
	cargo build --quiet --locked --release -p odradek-broker
	cargo test --locked -p odradek-e2e --features kubernetes --test site --test brokers -- $(or $(ARGS),--include-ignored)

.PHONY: demo
demo: setup-e2e images ## Shows it on a real Kubernetes, from helm install to a record read back; KEEP=1 leaves it up.
	cargo run --quiet --locked -p odradek-e2e --bin odradek-demo

.PHONY: demo-down
demo-down: ## Removes what KEEP=1 make demo left up, also when that was killed.
	cargo run --quiet --locked -p odradek-e2e --bin odradek-demo -- --down

.PHONY: check-clients
check-clients: setup-clients ## 10,000 records with Java's console tools, kcat and librdkafka, each codec.
	setup/check-clients

.PHONY: check-failover
check-failover: setup-clients ## Three brokers, 20 kills, librdkafka and Java's client: nothing acknowledged is lost.
	setup/check-failover

.PHONY: check-tools
check-tools: setup-clients ## Kafka's administration tools against three brokers and three of Kafka's, outputs compared.
	setup/check-tools

.PHONY: bench
bench: setup-clients ## Measures Odradek beside Apache Kafka in one run and prints the ratios; ARGS=--help for more.
	cargo build --quiet --locked --profile dist -p odradek -p odradek-broker -p odradek-broker-loss -p odradek-bench
	ODRADEK_BIN=$(CARGO_TARGET_DIR)/dist/odradek ODRADEK_BROKER_BIN=$(CARGO_TARGET_DIR)/dist/odradek-broker \
	ODRADEK_BROKER_LOSS_BIN=$(CARGO_TARGET_DIR)/dist/odradek-broker-loss $(CARGO_TARGET_DIR)/dist/odradek-bench $(ARGS)

.PHONY: images
images: setup-images ## Builds the container images and prints their sizes.
	cargo build --quiet --locked --release -p odradek-broker -p odradek-operator
	setup/images

.PHONY: dist
dist: setup-base ## Lays out the root folders that the images are copied from.
	cargo build --quiet --locked --release -p odradek-broker -p odradek-operator
	setup/dist

.PHONY: generate
generate: ## Writes the CRDs, the CRD chart and manifests/install.yaml anew from the Rust types.
	cargo run --quiet --locked -p odradek-crds --example generate

.PHONY: lint
lint: setup-lint ## Format, clippy with warnings denied, licences and sources of dependencies, spelling, TOML.
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	setup/deny
	setup/check-text

.PHONY: format
format: ## Formats the code.
	cargo fmt --all

.PHONY: setup-base setup-test setup-clients setup-images setup-e2e setup-lint
setup-base:
	@setup/install base
setup-test:
	@setup/install base clients control-plane
setup-clients:
	@setup/install base clients
setup-images:
	@setup/install base images
setup-e2e:
	@setup/install base clients images kubernetes
setup-lint:
	@setup/install base lint

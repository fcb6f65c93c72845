# The commands of this repository; `make help` lists them. Every target does the set-up that it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
# The tests need the ffmpeg command as well.
test test-rust test-python test-clouds mutants fuzz: SETUP_FOR := test
.PHONY: help setup blender models build demo reference ablations domain judge test test-rust test-python test-clouds mutants fuzz bench lint schemas clean

# A library of your own, such as that of the wheel onnxruntime-gpu, goes before the one that `make setup` fetches.
export ORT_DYLIB_PATH ?= $(CURDIR)/.deps/onnxruntime/libonnxruntime.so
export PATH := $(PATH):$(HOME)/.cargo/bin

# One profile for everything: the program, its tests and its lints share what they can of the dependencies' build.
CARGO := cargo
PROFILE := --release --locked
SIMDROP := target/release/simdrop

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## install what is missing: system packages, ONNX Runtime
	@scripts/setup.sh $(SETUP_FOR)

blender: ## optional: Blender as a Python module, people, panoramas; 900 MB
	@scripts/setup-blender.sh

models: ## export the graphs in models/graphs anew, each compared with JAX; only after a change in models/; 1.1 GB, 15 minutes
	@scripts/setup-models.sh
	@.deps/models/bin/python models/export.py --all --output models/graphs

build: setup ## build target/release/simdrop
	@$(CARGO) build $(PROFILE) --bin simdrop
	@scripts/place-binary.sh $(SIMDROP)

demo: build ## run pipelines/demo.yaml on the clips in data/, then ask one question of the result
	@$(SIMDROP) run pipelines/demo.yaml --overwrite
	@echo
	@echo "keep rate by source (sql/keep-rate-by-source.sql):"
	@$(SIMDROP) sql out/demo -f sql/keep-rate-by-source.sql

ablations: build ## judge the artefact score with other settings; after `make reference judge`
	@scripts/ablations.sh

domain: build ## judge the domain score by videos that its models have not seen; after `make reference judge`
	@scripts/domain.sh

judge: build ## judge the scores on scenes that no denoiser was trained on; after `make reference`
	@scripts/judge.sh

reference: build ## train the denoisers that score: renders scenes first (make blender), half an hour on two cores
	@scripts/reference.sh

test: lint test-python test-rust ## everything that .ci/run checks

test-rust: setup ## the tests in Rust
	@$(CARGO) test $(PROFILE)

test-python: build ## read what simdrop wrote with other programs: webdataset, PyAV, DuckDB, pyarrow
	@scripts/test-python.sh

test-clouds: build ## az:// and gs:// against Azurite and fake-gcs-server; sets both up (npm, 270 MB), two minutes
	@scripts/clouds-env.sh
	@.deps/clouds/venv/bin/python tests/python/check_clouds.py

mutants: build ## 10,000 damaged clips through a pipeline: no crash, no hang, no leak, every clip accounted for; two minutes
	@scripts/mutants.sh 10000

fuzz: setup ## fuzz the reading of clips for two hours (FUZZ_SECONDS=3600 for each target); needs no nightly toolchain
	@scripts/fuzz.sh $(FUZZ_SECONDS)

bench: build ## criterion benches, then the throughput of the demo by stage beside the limits of this machine
	@$(CARGO) bench --locked
	@$(SIMDROP) bench pipelines/demo.yaml

lint: setup ## formatting and clippy, warnings are errors
	@scripts/lint.sh

schemas: build ## write schemas/ anew from the types
	@$(SIMDROP) schema --write

clean: ## remove what was built and written: target/ and out/ (.deps/ stays)
	@rm -rf out
	@$(CARGO) clean
	@rm -rf target

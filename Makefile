# The short way in; CMake and CTest below it do the work. `make help` lists the targets.

RANKS   ?= 4
CONFIG  ?= configs/bible.yaml
SET     ?=
RESUME  ?= auto
SECONDS ?= 60

BOOK := runs/data/kjv.txt

# More ranks than cores must yield and not be bound, single-copy needs rights that containers withhold, and Open MPI
# wants to be asked twice before it runs as root.
ENVIRONMENT := OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
               OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none \
               $(if $(filter 0,$(shell id -u)),OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
# What TERM to mpirun, as `timeout` and schedulers send it, leaves the ranks to save in: twice as many seconds. A run that
# fails takes as long to end. mpirun would say in a dozen lines behind each message of the program that it has ended with
# a failure; being quiet it says nothing of a signal either.
CAIRN := $(ENVIRONMENT) OMPI_MCA_odls_base_sigkill_timeout=$${OMPI_MCA_odls_base_sigkill_timeout:-5} \
         OMPI_MCA_orte_execute_quiet=1 OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} mpirun -n $(RANKS) build/cairn
OVERRIDES = $(foreach setting,$(SET),--set '$(setting)')

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: help setup build data train vision evolve bench check test asan-build asan fuzz arm format clean

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@echo
	@echo '  RANKS=$(RANKS) CONFIG=$(CONFIG) RESUME=$(RESUME)   of train'
	@echo '  CAIRN_PYTHON=python3 LLMC= CORES=2 ROUNDS=2 STEPS=3 TYPE=bf16 in the environment of bench'
	@echo '  SET="training.stop_at=100 run.log_every=10"   settings that override those of CONFIG'

setup: ## install what is missing (Debian and its like)
	@.ci/setup

build: setup ## the program and its tests, in build/
	@.ci/configure build -DCAIRN_SANITIZE= -DCAIRN_FUZZ=OFF
	@cmake --build build

data: setup
	@test -s $(BOOK) || { mkdir -p $(dir $(BOOK)) && echo 'Writing $(BOOK)' && bible -f gen1:1-rev22:21 > $(BOOK).$$$$ && \
	  test -s $(BOOK).$$$$ && mv $(BOOK).$$$$ $(BOOK) || { rm -f $(BOOK).$$$$; false; }; }

train: build data ## train CONFIG on RANKS ranks; a run that was stopped goes on where it was
	@build/cairn config $(CONFIG) $(OVERRIDES) >/dev/null # a typing error is told at once
	@$(CAIRN) train $(CONFIG) $(OVERRIDES) --resume $(RESUME) $(if $(filter-out auto,$(RESUME)),--anew) || \
	  { status=$$?; [ $$status -le 128 ] || echo "a rank was ended by signal $$((status - 128)); out of memory? (dmesg)" >&2; exit $$status; }
	@echo; echo 'To start anew: make train RESUME=none'

vision: build ## train configs/fashion.yaml on 2 ranks, with images that a Debian package brings, and show its page
	@.ci/setup dataset-fashion-mnist
	@$(MAKE) --no-print-directory -o build -o data train CONFIG=configs/fashion.yaml RANKS=2
	@build/cairn report runs/fashion

evolve: build ## let configs/evolve-fashion.yaml learn five kinds of clothes on 2 ranks, and show its page
	@.ci/setup dataset-fashion-mnist
	@tests/studies/fashion_tasks.sh /usr/share/datasets/fashion-mnist runs/data/fashion-tasks
	@$(ENVIRONMENT) OMP_NUM_THREADS=1 mpirun -n 2 build/cairn evolve configs/evolve-fashion.yaml $(OVERRIDES)
	@build/cairn evolve runs/evolve-fashion --status --report

bench: build ## a training step of GPT-2 124M here, in PyTorch and llm.c where installed: runs/bench/comparison.md
	@$(ENVIRONMENT) tests/peers/compare.sh build/cairn configs/gpt2-124m.yaml runs/bench/comparison.md

check: build ## the quick tests: format, layers, unit tests, a run on two ranks
	@.ci/count build:check

test: build asan-build ## every test, then the unit tests under the address and undefined behaviour sanitizers
	@.ci/count build: build-asan:unit

asan-build: setup
	@.ci/configure build-asan -DCAIRN_SANITIZE=address,undefined -DCAIRN_FUZZ=OFF
	@cmake --build build-asan

asan: asan-build ## the unit tests under the sanitizers
	@.ci/count build-asan:unit

fuzz: ## each fuzzer of tests/fault for SECONDS
	@.ci/setup clang libclang-rt-dev
	@.ci/configure build-fuzz -DCMAKE_C_COMPILER=clang -DCAIRN_FUZZ=ON
	@cmake --build build-fuzz --target fuzzers
	@failed=0; for fuzzer in build-fuzz/fuzz/*; do name=$${fuzzer##*/}; echo "== $$name"; \
	  mkdir -p build-fuzz/corpus/$$name; $(ENVIRONMENT) $$fuzzer -max_total_time=$(SECONDS) -verbosity=0 -print_funcs=0 \
	  -print_final_stats=1 -artifact_prefix=build-fuzz/$$name- build-fuzz/corpus/$$name || failed=1; done; exit $$failed

arm: ## a build for aarch64; its unit tests and conformance cases under qemu (Debian)
	@tests/arm/run.sh

format: setup ## lay out all C files by .clang-format
	@tests/lint/format.sh . fix

clean: ## remove the build folders; runs/ stays
	rm -rf build build-asan build-fuzz build-arm build-arm-sysroot

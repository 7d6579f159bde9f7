# demo and test set everything up by themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# No byte code beforehand: most of what is installed is never imported.
INSTALL = $(PIP) install --quiet --no-compile -c .venv/constraints.txt
# What is imported keeps its byte code: torch's takes seconds to make, in each of many processes.
export PYTHONDONTWRITEBYTECODE :=
TRITON ?= 3.6.0
MINUTES ?= 5
OUT ?= build/device-run
FUZZ ?= 10000

.PHONY: demo test docs examples bench gpu lint sanitize compile-targets peers-suites clean

demo: .venv/ready
	$(BIN)/python -m sslkernels.train simclr

# Two workers; threads that wait sleep, lest those of one keep the other from its core.
test: .venv/tools
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal

# The site, in build/docs; a warning is an error. `make test` builds it too.
docs: .venv/tools
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/docs
	@echo "open build/docs/index.html"

examples: .venv/tools
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 -rP tests/test_examples.py

bench: .venv/tools
	$(BIN)/python -m bench --suite peers --save
	$(BIN)/python -m bench.step --save
	$(BIN)/python -m bench.report

lint: .venv/tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The primitives' tests, and random calls, over C++ that stops where it leaves its memory. It needs
# more memory than tests of memory allow, and rounds otherwise than one test's exactness allows.
sanitize: .venv/tools
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -G Ninja -S . -B build/sanitized -DSSLKERNELS_SANITIZE=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/build/sanitized
	$(BIN)/ninja -C build/sanitized
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 SSLKERNELS_FUZZ=$(FUZZ) OMP_WAIT_POLICY=passive \
	  $(BIN)/python -m pytest -p sanitized -p no:cacheprovider -n 2 tests/primitives \
	  -k "not memory and not stored and not keeps_no_product" \
	  --deselect tests/primitives/test_pairwise_softplus.py::test_ragged_shapes

# The Triton kernels, compiled for every architecture by another Triton installed beside.
compile-targets: .venv/tools
	$(PIP) install --quiet --no-deps --target .venv/triton-$(TRITON) triton==$(TRITON)
	SSLKERNELS_COMPILE=all PYTHONPATH=.venv/triton-$(TRITON) $(BIN)/python -m pytest -rP tests/compile

# Peers' own tests without and with patch, from checkouts in SRC; needs what their tests need.
peers-suites: .venv/tools
	$(BIN)/python tests/compat/peers_suites.py $(SRC)

# On a machine with a GPU, with the torch that is there: nothing is downloaded.
gpu:
	SSLKERNELS_CUDA_ARCHS=native $(PYTHON) -m pip install --quiet --no-build-isolation --no-deps -e .
	$(PYTHON) -m bench.device --minutes $(MINUTES) --out $(OUT)

# torch first, so that its dependents find the pinned build; then the package and its extras.
# A CUDA torch brings the one Triton it works with, which then is no matter of ours to pin.
.venv/ready: constraints.txt pyproject.toml setup.py CMakeLists.txt $(shell find csrc -type f)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --no-compile torch==$$(sed -n 's/^torch==//p' constraints.txt)
	if $(PIP) show --quiet triton 2>/dev/null; then sed '/^triton==/d' constraints.txt; \
	  else cat constraints.txt; fi > .venv/constraints.txt
	$(INSTALL) setuptools pybind11 cmake ninja
	PATH="$(CURDIR)/$(BIN):$$PATH" $(INSTALL) --no-build-isolation -e '.[train]'
	$(BIN)/python -m sslkernels
	touch $@

# What tests and benchmarks need besides; the package, installed already, is not built again. Of
# torchvision the transforms are the oracle of ours; with its dependencies it would bring another
# torch. Of stable-pretraining only the losses are used, which need no more than loguru.
.venv/tools: .venv/ready
	$(INSTALL) 'sslkernels[train,bench,test,docs]'
	$(INSTALL) --no-deps torchvision
	$(INSTALL) "nvidia-dali-cuda130; sys_platform == 'linux'" \
	  || echo "DALI cannot be installed here: PIL will read images, and tests of DALI are skipped."
	$(INSTALL) 'sslkernels[peers]' && $(INSTALL) --no-deps stable-pretraining loguru \
	  || echo "The peers cannot be installed here: tests against them are skipped."
	touch $@

clean:
	rm -rf .venv build sslkernels/_C*.so

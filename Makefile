# The same commands here and in a hosted CI. Everything runs from the checkout, in the environment .venv.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
BUNDLE := $(PY) -m bundle

.PHONY: help venv label-env bioimageio-env peers-env demo test test-avx2 test-fast test-hostile check format clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

venv: $(VENV)/.ready  ## the environment, with the exact versions of constraints.txt

# torch first and alone: a resolver that may choose takes a newer build with gigabytes of CUDA packages.
# elasticdeform, an oracle of the tests, last and from source: its binaries were built for numpy 1 and fail under 2.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade "pip>=25"
	$(PY) -m pip install --quiet --constraint constraints.txt torch
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@$(PY) -m pip install --quiet --constraint constraints.txt --no-deps --no-binary elasticdeform elasticdeform || \
		echo "elasticdeform was not built (no C compiler?): the tests that compare with it will be skipped"
	@touch $@

# MONAI Label's server asks for Python 3.11 and older versions of packages that the bundle has newer: an environment of its own
LABEL_PYTHON ?= python3.11
LABEL_VENV   ?= .venv-label

# the newest MONAI Label at every call: newer versions mend vulnerabilities. pip keeps the installed version, with a warning,
# if the registry does not answer
label-env: $(LABEL_VENV)/.ready  ## the environment of MONAI Label's server, for python -m bundle label
	@$(LABEL_VENV)/bin/python -m pip install --quiet --no-deps --upgrade monailabel
	@$(LABEL_VENV)/bin/python -m pip show monailabel | grep ^Version

$(LABEL_VENV)/.ready: requirements-label.txt
	$(LABEL_PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25"
	$(LABEL_VENV)/bin/python -m pip install --quiet $$(grep '^torch==' requirements-label.txt)
	$(LABEL_VENV)/bin/python -m pip install --quiet --no-deps --requirement requirements-label.txt
	@touch $@

demo: venv  ## sample data, a small net: train, evaluate, segment, figures; minutes on two cores
	$(BUNDLE) sample demo/data --overwrite
	$(BUNDLE) train demo/data/train --overlay variant_adam,demo
	$(BUNDLE) evaluate demo/data/test --weights demo/models/model.pt --output demo/evaluation
	$(BUNDLE) segment demo/data/test/images --weights demo/models/model.pt --output demo/segmentation
	@echo
	@echo "Open"
	@echo "  demo/train/panel.png            a held-out image: label, prediction, error"
	@echo "  demo/evaluation/panels/         errors in images of no training"
	@echo "  demo/segmentation/overlays/     objects on the images"
	@echo "  demo/segmentation/objects.csv   a row for every object (images.csv: image)"

bioimageio-env: .venv-bioimageio/.ready  ## environment of the validator of bioimage.io packages, which a test then uses

# its specification needs an older pydantic than the other packages
.venv-bioimageio/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bioimageio
	grep -v '^pydantic' constraints.txt > .venv-bioimageio/constraints.txt
	.venv-bioimageio/bin/python -m pip install --quiet --constraint .venv-bioimageio/constraints.txt torch
	.venv-bioimageio/bin/python -m pip install --quiet --constraint .venv-bioimageio/constraints.txt ".[bioimageio]"
	@touch $@

peers-env: .venv-peers/.ready  ## environment of nnU-Net, StarDist and Cellpose, for python -m benchmarks.peers; 4 GB

.venv-peers/.ready: requirements-peers.txt
	$(LABEL_PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --upgrade "pip>=25"
	.venv-peers/bin/python -m pip install --quiet $$(grep '^torch==' requirements-peers.txt)
	.venv-peers/bin/python -m pip install --quiet --no-deps --requirement requirements-peers.txt
	@touch $@

# in the order of tests/conftest.py, not by the number of tests in a file
TWO := -n 2 --dist loadfile --no-loadscope-reorder

# one thread each for two processes: two threads each would wait for one another on two cores
test: venv  ## the whole test suite
	OMP_NUM_THREADS=1 $(PY) -m pytest $(TWO)

# oneDNN computes the convolutions: with this limit `auto` is float32, and bfloat16 is emulated
test-avx2: venv  ## the whole test suite as on a processor with AVX2 alone, which most laptops have
	ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 $(PY) -m pytest $(TWO)

test-fast: venv  ## without the tests marked slow
	OMP_NUM_THREADS=1 $(PY) -m pytest $(TWO) -m "not slow"

# as root also with full disks, which are small file systems in memory. CHECKOUT=../old tries another checkout
test-hostile: venv  ## kills, full disks, damaged files, wrong settings and labels: a table of tried and held cases
	ORIGINAL_UNET_ROOT=$(CHECKOUT) OMP_NUM_THREADS=1 $(PY) -m pytest $(TWO) tests/hostile tests/bundle/labelling/test_attacks.py

check: venv  ## ruff, mypy, and what must hold before the bundle is published
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m bundle verify

format: venv  ## let ruff lay out the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:  ## remove what the demo and the tools made; what annotators trained, in output/label, stays
	rm -rf demo output/train output/segmentation .pytest_cache .mypy_cache .ruff_cache build *.egg-info

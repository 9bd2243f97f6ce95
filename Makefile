# make run    train, compress, export, verify on the embedded digits, and say where the report is and how to serve
# make test   lint, types, tests
#
# PRESET=tiny        a shorter run with fewer rates and seeds (default: digits)
# TORCH_INDEX=URL    another index for PyTorch, like https://download.pytorch.org/whl/cpu
# PYTHON=python3.12  the Python to make the virtual environment with (3.11 or newer)

PRESET ?= digits
PYTHON ?= python3
TORCH_INDEX ?=
PIP_FLAGS := -q -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint install clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -7

run: .venv/installed
	@$(BIN)/bigstep run $(PRESET)

test: .venv/installed-dev lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

lint: .venv/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

install: .venv/installed

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "bigstep needs Python 3.11 or newer; name one with: make run PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python -m venv failed; on Debian: apt install python3-venv"; exit 2; }

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing PyTorch, ONNX Runtime and other packages into .venv: about 0.4 GB to download."
	@echo "PyTorch from PyPI brings CUDA on Linux, about 3 GB more; avoid it with"
	@echo "  make run TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	@$(BIN)/python -m pip install $(PIP_FLAGS) torch torchvision
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[cpu,train,report]'
	@touch $@

.venv/installed-dev: .venv/installed
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[cpu,train,report,dev]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

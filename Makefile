# The developer's loop; `make` alone prints the targets and does nothing else.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install lint check test test-faults test-slurm mutants docs format demo

# Children of tests would compile the package anew each time.
unexport PYTHONDONTWRITEBYTECODE

# An environment that is there and complete is found at once; its python is the last line that is printed.
python = python="$$(tools/install.sh)"; bin="$$(dirname "$$python")"

help:  ## print this list
	@echo "make TARGET, where TARGET is one of:"
	sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 16

install:  ## make or complete the environment (.venv, unless another one with torch is active)
	@$(python)
	echo "To use harness in this shell: source $$bin/activate"

lint:  ## ruff, codespell, mypy and the import contracts
	@$(python)
	"$$bin/ruff" check .
	"$$bin/ruff" format --check .
	"$$bin/codespell"
	"$$bin/mypy"
	"$$bin/mypy" slurm/dev-cluster
	"$$bin/lint-imports"

check: lint  ## before every commit: lint and the fast tests; about a minute and a half
	@$(python)
	"$$python" -m pytest -m "not e2e and not faults and not ranks and not slurm"

test: lint  ## lint and all tests but those of Slurm
	@$(python)
	"$$python" -m pytest -m "not slurm and not exhaustive"

test-faults:  ## every damaged file, kills, full disks: what real machines do to a sweep; nightly
	@$(python)
	"$$python" -m pytest tests/faults

test-slurm:  ## the tests of Slurm, on the cluster that `slurm/dev-cluster up` has started
	@$(python)
	"$$python" tools/slurm_tests.py

mutants:  ## seeded faults in losses and ranks, each of which a test has to catch; weekly
	@$(python)
	"$$python" tests/mutants.py

docs:  ## the tests of the documentation: its commands, numbers and lists are those of the code
	@$(python)
	"$$python" -m pytest $$(find tests -name 'test_docs*.py' -o -name 'test_experiments.py')

format:  ## format the code and apply ruff's safe corrections
	@$(python)
	"$$bin/ruff" check --fix .
	"$$bin/ruff" format .

demo:  ## train the demonstration's cells and write its report
	@$(python)
	"$$bin/harness" sweep experiments/dcl_batchsize.yaml
	"$$bin/harness" report experiments/dcl_batchsize.yaml
	[ "$$bin" = "$$PWD/.venv/bin" ] && echo "To use harness in this shell: source .venv/bin/activate" || true

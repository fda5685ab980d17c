# make demo   install, train the demo's cells, write its report
# make test   install, lint, types, import contracts, tests; those of Slurm one by one (see slurm/dev-cluster)
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo test format

demo:
	@python="$$(tools/install.sh)"; bin="$$(dirname "$$python")"
	"$$bin/harness" sweep experiments/dcl_batchsize.yaml
	"$$bin/harness" report experiments/dcl_batchsize.yaml
	[ "$$bin" = "$$PWD/.venv/bin" ] && echo "To use harness in this shell: source .venv/bin/activate" || true

test:
	@python="$$(tools/install.sh)"; bin="$$(dirname "$$python")"
	"$$bin/ruff" check .
	"$$bin/ruff" format --check .
	"$$bin/mypy"
	"$$bin/mypy" slurm/dev-cluster
	"$$bin/lint-imports"
	"$$python" -m pytest --ignore tests/slurm
	# Four nodes on one machine, and other work beside them: what failed must pass alone.
	"$$python" -m pytest -n 0 tests/slurm || "$$python" -m pytest -n 0 --last-failed tests/slurm

format:
	@bin="$$(dirname "$$(tools/install.sh)")"
	"$$bin/ruff" check --fix .
	"$$bin/ruff" format .

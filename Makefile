# make demo   install, train the demo's cells, write its report
# make test   install, lint, types, import contracts, tests
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
	"$$bin/lint-imports"
	"$$python" -m pytest

format:
	@bin="$$(dirname "$$(tools/install.sh)")"
	"$$bin/ruff" check --fix .
	"$$bin/ruff" format .

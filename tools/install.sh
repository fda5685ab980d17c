#!/usr/bin/env bash
# Installs harness with its tested versions into an environment, and prints that environment's python.
#
# An active environment that already has torch is used as it is, torch included; else .venv is made. torch is chosen so
# that a machine without a GPU never downloads CUDA libraries:
#   1. a CPU wheel that pip already finds without an index (find-links);
#   2. PyTorch's own CPU index, the only one that has versions named +cpu;
#   3. otherwise nothing: the script says what it would have downloaded, and stops.
# TORCH=cuda (or a GPU on this machine) takes the default build instead.
set -euo pipefail
cd "$(dirname "$0")/.."
cpu_index="https://download.pytorch.org/whl/cpu"
torch_pin="$(grep -E '^torch==' constraints.txt)"
vision_pin="$(grep -E '^torchvision==' constraints.txt)"
say() { echo "install: $*" >&2; }

active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
if [ -n "$active" ] && [ -x "$active/bin/python" ] && "$active/bin/python" -c 'import torch' 2>/dev/null; then
  python="$active/bin/python"
else
  python="$PWD/.venv/bin/python"
  if [ ! -x "$python" ]; then
    base="${PYTHON:-$(command -v python3.11 || command -v python3)}"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      { say "Python 3.11 or newer is needed, $base is older; set PYTHON=/path/to/python3.11"; exit 1; }
    # An interpreter that already has torch lends it to the environment.
    share="$("$base" -c 'import torch; print("--system-site-packages")' 2>/dev/null || true)"
    "$base" -m venv $share .venv ||
      { say "no environment could be made; on Debian and Ubuntu: apt-get install python3-venv"; rm -rf .venv; exit 1; }
  fi
fi

# -P: the present folder does not count as installed; another clone's installation does not either.
ours() { "$python" -P -c 'import harness, sys; sys.exit(not harness.__file__.startswith(sys.argv[1]))' "$PWD/" 2>/dev/null; }
stamp="$("$python" -c 'import sys; print(sys.prefix)')/.harness-$(cat pyproject.toml constraints.txt "$0" | sha256sum | cut -c1-16)"
if [ -e "$stamp" ] && ours; then echo "$python"; exit 0; fi

pip() { "$python" -m pip "$@" >&2; }
install() { pip install -q "$@"; }
have() { "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)"; }
if ! have torch; then
  if [ "${TORCH:-}" = cuda ] || { [ -z "${TORCH:-}" ] && nvidia-smi -L >/dev/null 2>&1; }; then
    say "installing $torch_pin with CUDA"
    install -c constraints.txt torch torchvision
  elif pip install -q --no-index --no-deps --dry-run "$torch_pin" 2>/dev/null; then
    say "installing the CPU wheel of $torch_pin that pip finds on this machine"
    install --no-index --no-deps "$torch_pin"
  else
    say "installing $torch_pin from $cpu_index"
    install --extra-index-url "$cpu_index" "$torch_pin+cpu" "$vision_pin+cpu" || {
      say "no CPU build of torch can be reached: neither in pip's find-links nor at $cpu_index."
      say "The default index has only the CUDA build of $torch_pin (several GB), which this machine without a GPU"
      say "does not need. Stopped. Download it all the same with:  TORCH=cuda make demo"
      exit 1
    }
  fi
fi

# An environment that brought its own torch keeps it: its pins are left out.
# Asked of the metadata: until its dependencies are there, torch itself cannot be imported.
installed_torch="$("$python" -c 'from importlib.metadata import version; print(version("torch").split("+")[0])')"
pins="$(mktemp)"; trap 'rm -f "$pins"' EXIT
if [ "torch==$installed_torch" = "$torch_pin" ]; then cp constraints.txt "$pins"
else grep -v -E '^(torch|torchvision|numpy|pillow)==' constraints.txt > "$pins"; echo "torch==$installed_torch" >> "$pins"; fi
say "installing harness and its tested versions"
install -c "$pins" -e '.[dev]'

if "$python" -c 'import torch, sys; sys.exit(torch.version.cuda is not None)' &&
  "$python" -m pip list 2>/dev/null | grep -q '^nvidia-'; then
  say "CUDA packages were installed beside a CPU torch; this is a bug in tools/install.sh"; exit 1
fi
touch "$stamp"
echo "$python"

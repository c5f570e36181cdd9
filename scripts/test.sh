#!/usr/bin/env bash
# Runs everything: linter, formatter, type checker and tests. Arguments go to pytest.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/setup.sh test
bin=.venv/bin
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
# One thread per process: the models are small, and torch's threads would wait for each other.
OMP_NUM_THREADS=1 "$bin/python" -m pytest -n 2 "$@"

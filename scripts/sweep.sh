#!/usr/bin/env bash
# Sets everything up and runs tables of several models on all GPUs. Usage: scripts/sweep.sh --models tiny --gpus cpu
# --limit 10 (or --help)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh" math
export LMEVAL_LOG_LEVEL=${LMEVAL_LOG_LEVEL:-ERROR} PYTHONSAFEPATH=1
exec "$root/.venv/bin/python" -m odb_dllm sweep "$@"

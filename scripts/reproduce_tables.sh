#!/usr/bin/env bash
# Sets everything up and runs a paper's table. Usage: scripts/reproduce_tables.sh --model tiny --limit 10 (or --help);
# --paper odb-dllm (the default), fast-dllm or streaming-dllm
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh" math
export LMEVAL_LOG_LEVEL=${LMEVAL_LOG_LEVEL:-ERROR} PYTHONSAFEPATH=1
exec "$root/.venv/bin/python" -m odb_dllm reproduce "$@"

#!/usr/bin/env bash
# Sets everything up and evaluates the embedded model on shipped problems with jump-share, beside
# fast_dllm_baseline. Usage: scripts/quickstart.sh [problems, at most 1000]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
problems=${1:-100}
if ! [[ "$problems" =~ ^[0-9]+$ ]] || ((problems < 1 || problems > 1000)); then
    echo "error: the number of problems must lie between 1 and 1000, not '$problems'." >&2
    exit 2
fi
"$root/scripts/setup.sh"

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
# Everything is in the package: nothing is asked of the hub.
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 LMEVAL_LOG_LEVEL=ERROR PYTHONSAFEPATH=1
for setting in jump-share fast_dllm_baseline; do
    echo "Evaluating tiny on $problems problems of gsm8k_mini with $setting" >&2
    "$root/.venv/bin/python" -m odb_dllm run --tasks gsm8k_mini --limit "$problems" --output_path "$results/$setting" \
        --model_args pretrained=tiny "setting=$setting" gen_length=256 > "$results/$setting.log"
done
echo
"$root/.venv/bin/python" "$root/scripts/compare.py" "$results"/*/*/results_*.json

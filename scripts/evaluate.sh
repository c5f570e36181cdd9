#!/usr/bin/env bash
# Evaluates one model on one task with the published hyper-parameters: G 1024 (Dream's papers: 256), B 32, threshold 0.9,
# the family's length-prediction thresholds and windows. Called by llada_instruct/, llada_1_5/ and dream/:
#   evaluate.sh <family> <default model> [GPU_ID] [Task_Name] [Model] [Setting] [lm-eval arguments...]
set -euo pipefail

family=$1 default_model=$2
shift 2
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
script="$family/eval_$family.sh"

fail() {
    echo "error: $*" >&2
    exit 2
}

case "${1:-}" in
-h | --help)
    cat << USAGE
usage: $script [GPU_ID] [Task_Name] [Model] [Setting] [lm-eval arguments...]

  GPU_ID     number of a GPU, or cpu                      (default: 0)
             0,1 shares the documents out to two GPUs, and cpu,cpu to two processes on the CPU
  Task_Name  gsm8k minerva_math bbh humaneval mbpp, or any other lm-eval task (default: gsm8k)
  Model      folder, hub id or tiny                       (default: $default_model)
  Setting    odb-dllm settings lists them                 (default: jump-share)
             with switches: jump-share+refresh=response

Further arguments go to lm-eval; --model_args name=value ... changes ours. DATA_DIR=<folder> reads local data.
USAGE
    exit 0
    ;;
esac

# The four positional arguments end at the first flag, so that defaults and flags go together.
positional=()
while (($# && ${#positional[@]} < 4)) && [[ "$1" != -* ]]; do
    positional+=("$1")
    shift
done
if (($#)) && [[ "$1" != -* ]]; then
    fail "'$1' is one argument too many: GPU_ID, Task_Name, Model and Setting come first, then flags."
fi
length=1024
[[ "$family" == dream ]] && length=256
gpu=${positional[0]:-0}
task=${positional[1]:-gsm8k}
model=${positional[2]:-$default_model}
setting=${positional[3]:-jump-share}

IFS=, read -ra gpus <<< "$gpu"
if [[ "$gpu" =~ ^cpu(,cpu)*$ ]]; then
    export CUDA_VISIBLE_DEVICES=
    device=cpu
elif [[ "$gpu" =~ ^(0|[1-9][0-9]*)(,(0|[1-9][0-9]*))*$ ]]; then
    twice=$(printf '%s\n' "${gpus[@]}" | sort | uniq -d | head -n 1)
    [[ -z "$twice" ]] || fail "GPU_ID $gpu names GPU $twice more than once, and each process needs one of its own."
    export CUDA_VISIBLE_DEVICES=$gpu
    device=cuda
else
    fail "GPU_ID must be the number of a GPU, several as in 0,1, or cpu, not '$gpu'."
fi

python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
"$python" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "lm_eval"))))' &> /dev/null ||
    fail "$python has no torch or no lm-eval: run scripts/quickstart.sh first."
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
folder=$task/$setting
[[ "$folder" =~ ^[A-Za-z0-9_,-]+/[A-Za-z0-9_-]+$ ]] ||
    folder=$("$python" -I "$root/odb_dllm/folder_names.py" "$task" "$setting")
output=(--output_path "results/$family/$folder")
for argument in "$@"; do
    case "$argument" in
    -o | --output_path | --output_path=*) output=() ;;
    esac
done

command=(odb_dllm)
((${#gpus[@]} == 1)) || command=(odb_dllm.launch "${#gpus[@]}")
# lm-eval merges repeated --model_args, the later ones winning.
exec "$python" -m "${command[@]}" run \
    --tasks "$task" --device "$device" ${output[@]+"${output[@]}"} \
    --model_args "pretrained=$model" "setting=$setting" "family=$family" "gen_length=$length" block_length=32 \
    "$@"

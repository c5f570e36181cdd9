#!/usr/bin/env bash
# Usage: eval_llada_instruct.sh [GPU_ID] [Task_Name] [Model] [Setting] [lm-eval arguments...]   (--help explains)
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../scripts/evaluate.sh" llada_instruct GSAI-ML/LLaDA-8B-Instruct "$@"

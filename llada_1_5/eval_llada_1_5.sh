#!/usr/bin/env bash
# Usage: eval_llada_1_5.sh [GPU_ID] [Task_Name] [Model] [Setting] [lm-eval arguments...]   (--help explains)
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../scripts/evaluate.sh" llada_1_5 GSAI-ML/LLaDA-1.5 "$@"

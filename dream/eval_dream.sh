#!/usr/bin/env bash
# Usage: eval_dream.sh [GPU_ID] [Task_Name] [Model] [Setting] [lm-eval arguments...]   (--help explains)
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../scripts/evaluate.sh" dream Dream-org/Dream-v0-Instruct-7B "$@"

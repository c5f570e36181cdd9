"""lm-eval's own functions, with programs run in the sandbox."""

from odb_dllm.sandbox.code_eval import lm_eval_utils

_own = lm_eval_utils("humaneval")
pass_at_k, build_predictions = _own.pass_at_k, _own.build_predictions

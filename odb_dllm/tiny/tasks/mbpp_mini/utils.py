"""lm-eval's own functions, with programs run in the sandbox."""

from odb_dllm.sandbox.code_eval import lm_eval_utils

pass_at_1 = lm_eval_utils("mbpp").pass_at_1

"""The kernels in Triton, for contiguous CUDA tensors of float32, float16 or bfloat16; ``plain`` says what they compute.

They are memory-bound at the shapes of a step, so each reads its input once, in wide accesses. Tiles are chosen by
shape (``tiles``), never tuned while a model runs. ``TRITON_INTERPRET=1`` runs them on CPU tensors.
"""

from odb_dllm.kernels.fused.attention import attend
from odb_dllm.kernels.fused.gate import gated
from odb_dllm.kernels.fused.judgement import judge
from odb_dllm.kernels.fused.norm import add_rms_norm
from odb_dllm.kernels.fused.rotary import rotate_store

__all__ = ["add_rms_norm", "attend", "gated", "judge", "rotate_store"]

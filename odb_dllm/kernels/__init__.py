"""Fused kernels for the steps of a generation: everything between a layer's matrix products, and the choice of tokens.

Each function is defined by ``plain``, in torch; on CUDA tensors of up to 32 bits, Triton's kernels in ``fused`` answer
in its place, and read nothing back to the host, so that they can be captured in a CUDA graph. Tensors are contiguous.
"""

from torch import Tensor

from odb_dllm.kernels.dispatch import available, implementation
from odb_dllm.kernels.view import RANGES, View

__all__ = ["RANGES", "View", "add_rms_norm", "attend", "available", "gated", "judge", "rotate_store"]


def add_rms_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Add to the residual stream and norm it for what comes next: (x + delta, RMSNorm(x + delta)).

    Args:
        x: [n, d], the residual stream.
        delta: [n, d], rounded into it; None: nothing is added, and ``x`` itself comes back.
        weight: [d] of the norm; like ``models.layers.RMSNorm``, float32 inside and cast back before the weight.

    Returns:
        Two [n, d] in the dtype of ``x``.
    """
    return implementation(x.device, x.dtype).add_rms_norm(x, delta, weight, eps)


def rotate_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, rows: Tensor, slots: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Rotate queries and keys as ``models.layers.rotate``, and put keys and values into a layer of the pool.

    Args:
        qkv: [n, (H + 2K) * h], the queries of H heads, then keys and values of K heads, biases included.
        cos, sin: float32 [P, h], by position.
        positions: int32 [n], in [0, P).
        rows, slots: int32 [n], where in the pool each token's key and value go; slot -1: nowhere.
        keys, values: [R, K, S, h], changed in place.

    Returns:
        The rotated queries [n, H, h].
    """
    return implementation(qkv.device, qkv.dtype).rotate_store(qkv, cos, sin, positions, rows, slots, keys, values)


def gated(gate_up: Tensor) -> Tensor:
    """SwiGLU's product: silu of the first half of each row (rounded) times the second, [n, 2m] -> [n, m]."""
    return implementation(gate_up.device, gate_up.dtype).gated(gate_up)


def attend(q: Tensor, keys: Tensor, values: Tensor, view: View) -> Tensor:
    """Attention of a batch's fed tokens to what they see of the pool, theirs included; softmax in float32.

    Args:
        q: [b * w, H, h], rotated; H is a multiple of K.
        keys, values: [R, K, S, h], a layer of the pool that holds the fed tokens' own.
        view: who sees what.

    Returns:
        [b * w, H * h]; zeros for padding.
    """
    return implementation(q.device, q.dtype).attend(q, keys, values, view)


def judge(logits: Tensor, mask: int, vocabulary: int) -> Tensor:
    """Choose the most probable token of each row and give the log of its softmax probability.

    The meaning is that of ``confidence.score_rows``: of equal logits the lowest id; the mask's id and ids from
    ``vocabulary`` on are never chosen, but stay in the denominator.

    Args:
        logits: [r, columns].

    Returns:
        int64 [4, r]: token; bits of the log confidence (float64); bits of the score, the same; whether all was
        finite. Where it was not, the first three say nothing.
    """
    return implementation(logits.device, logits.dtype).judge(logits, mask, vocabulary)

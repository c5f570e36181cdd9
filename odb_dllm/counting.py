"""Operations and bytes of a forward, counted from the model's shape; nothing is measured here.

With d, H, K, h, m, L and V for the widths and numbers of ``Shape``, n tokens fed, of which each sees s positions, and r
rows of the head read:

- operations: 2 per multiply-add of every matrix product, and nothing else. Per layer and token 2 d (H + 2 K) h for
  queries, keys and values, 2 H h d for the output projection, 6 d m for the gated MLP and 4 H h s for attention; 2 d V
  per row read.
- bytes: every weight that takes part is read once per forward (shared among the sequences of a batch); cached keys and
  values are read and the fed ones written once; what goes into and comes out of every matrix product is read and
  written once. Attention's scores stay on the chip. That is what a perfect implementation moves.

Their ratio is the arithmetic intensity: below the machine's ridge a forward is bound by memory, above it by compute
(ODB-dLLM, arXiv 2511.21759, Figure 1).
"""

from dataclasses import dataclass

from odb_dllm.contract import Pass
from odb_dllm.models.config import ModelConfig

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Work:
    """Floating-point operations, and bytes to and from memory."""

    flops: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True)
class Shape:
    """What of a model decides its work."""

    d_model: int
    n_heads: int
    n_kv_heads: int
    head: int
    n_layers: int
    mlp_hidden_size: int
    vocab_size: int

    @classmethod
    def of(cls, config: ModelConfig) -> "Shape":
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})

    @property
    def products(self) -> int:
        """Weights in the matrix products of one layer."""
        heads = self.n_heads * self.head
        return self.d_model * (2 * heads + 2 * self.n_kv_heads * self.head + 3 * self.mlp_hidden_size)

    @property
    def moved(self) -> int:
        """Numbers that go into and come out of the matrix products of one layer, per token."""
        heads, kv = self.n_heads * self.head, self.n_kv_heads * self.head
        return 2 * self.d_model + 2 * heads + 2 * kv + 2 * self.d_model + 3 * self.mlp_hidden_size


def forward_work(shape: Shape, dtype: str, *, fed: int, seen: int, cached: int, read: int, sequences: int = 1) -> Work:
    """The work of one sequence's share of a forward.

    Args:
        fed: tokens, branches included.
        seen: positions that each of them sees, itself included.
        cached: cached positions that are read.
        read: rows of the vocabulary head.
        sequences: that the forward is shared with, each of which pays its part of reading the weights.
    """
    heads, kv = shape.n_heads * shape.head, shape.n_kv_heads * shape.head
    head = shape.d_model * shape.vocab_size
    flops = shape.n_layers * fed * (2 * shape.products + 4 * heads * seen) + 2 * head * read
    weights = (shape.n_layers * shape.products + head) / sequences
    keys = 2 * shape.n_layers * kv * (cached + fed)
    others = shape.n_layers * fed * shape.moved + read * (shape.d_model + shape.vocab_size)
    return Work(flops, BYTES[dtype] * (weights + keys + others))


def pass_work(shape: Shape, dtype: str, made: Pass, block_length: int, sequences: int = 1) -> Work:
    """The work of a recorded forward; with branches, a token sees the cache and one block, its own or shared."""
    seen = made.cached + (made.fed if made.branches == 1 else block_length)
    return forward_work(shape, dtype, fed=made.fed, seen=seen, cached=made.cached, read=made.read, sequences=sequences)

"""Which part of each weight a rank holds: attention by heads, the MLP by units, the head by the vocabulary.

A family says in ``shards`` how its linear layers are cut (``models.layers.Shards``). Counts need not be multiples of
the ranks: a rank then has a head or a unit more than another.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from odb_dllm.contract import Range
from odb_dllm.errors import InputError
from odb_dllm.models.layers import Axis
from odb_dllm.tensor_parallel.layers import GatheredLinear, SummedLinear
from odb_dllm.tensor_parallel.peers import Peers, columns


@dataclass(frozen=True)
class Cut:
    """A rank's part of a linear layer: outputs (dimension 0) or inputs (1) in [first, last)."""

    dim: Literal[0, 1]
    first: int
    last: int

    def of(self, leaf: str, tensor: Any) -> Tensor:
        """The rank's part of a ``weight`` or ``bias``; ``tensor`` may be a slice of a safetensors file."""
        if self.dim == 0:
            return tensor[self.first : self.last]
        return tensor[:] if leaf == "bias" else tensor[:, self.first : self.last]


def check(network: Any, ranks: int) -> None:
    """Raise ``InputError`` for a network that cannot be shared by so many ranks; it needs no weights."""
    if ranks > 1 and not getattr(network, "shards", None):
        raise InputError(f"tensor_parallel does not know how to cut a {type(network).__name__}: leave it out.")
    check_sizes(network.config, ranks)


def check_sizes(config: Any, ranks: int) -> None:
    """Raise ``InputError`` for a model whose sizes are too small for so many ranks."""
    if ranks == 1:
        return
    for what, count in (("attention heads", config.n_heads), ("MLP units", config.mlp_hidden_size)):
        if ranks > count:
            raise InputError(f"tensor_parallel={ranks} exceeds the model's {count} {what}.")
    if ranks > config.n_kv_heads and ranks % config.n_kv_heads:
        raise InputError(
            f"tensor_parallel={ranks} must be at most the model's {config.n_kv_heads} key-value heads, or a multiple "
            "of them."
        )


def ranges(config: Any, rank: int, ranks: int) -> dict[Axis, Range]:
    """What a rank holds: [first, one past the last) of the features along each axis.

    Query heads go with their key-value heads. With more ranks than key-value heads, several ranks hold the same one
    and share its query heads.
    """
    kv_heads, head, group = config.n_kv_heads, config.head, config.n_heads // config.n_kv_heads
    if ranks <= kv_heads:
        kv = _part(kv_heads, rank, ranks)
        heads = kv[0] * group, kv[1] * group
    else:
        same = ranks // kv_heads  # ranks that hold one key-value head
        kv = rank // same, rank // same + 1
        first, last = _part(group, rank % same, same)
        heads = kv[0] * group + first, kv[0] * group + last
    return {
        "heads": (heads[0] * head, heads[1] * head),
        "kv_heads": (kv[0] * head, kv[1] * head),
        "units": _part(config.mlp_hidden_size, rank, ranks),
        "vocabulary": columns(rank, ranks, config.vocab_size),
    }


def _part(count: int, rank: int, ranks: int) -> Range:
    return count * rank // ranks, count * (rank + 1) // ranks


def shard(network: Any, peers: Peers) -> dict[str, Cut]:
    """Give a network without weights the linear layers of a rank, and return their cuts by name."""
    held = ranges(network.config, peers.rank, peers.count)
    cuts: dict[str, Cut] = {}
    for name, module in list(network.named_modules()):
        ends = [end for end in network.shards if f".{name}".endswith(f".{end}")]
        if isinstance(module, nn.Linear) and ends:
            dim, axis = network.shards[max(ends, key=len)]
            cuts[name] = Cut(dim, *held[axis])
            network.set_submodule(name, _local(module, cuts[name], axis, peers))
    first, last = held["kv_heads"]
    network.kv_heads = (last - first) // network.config.head
    return cuts


def _local(whole: nn.Linear, cut: Cut, axis: Axis, peers: Peers) -> nn.Linear:
    """The linear layer for a rank's part of another."""
    size, bias = cut.last - cut.first, whole.bias is not None
    with torch.device("meta"):
        if cut.dim == 1:
            return SummedLinear(size, whole.out_features, bias, peers)
        if axis == "vocabulary":
            return GatheredLinear(whole.in_features, size, bias, peers, whole.out_features)
        return nn.Linear(whole.in_features, size, bias)

"""The weights that a run begins with."""

import math

import torch
from torch import nn

from odb_dllm.models.llada import LLaDA

NEIGHBOURS = (1, -1, -2)  # tokens back, of the first heads of the first block
_CONSTANT = 4.0  # of the embeddings' deviation: their first entry, which those heads read
_SHARPNESS = 6.0  # of the logit of the neighbour
_PLANES = 4  # at most: the fastest planes of the rotation, which tell neighbours apart
_LOUDER = 4.0  # those heads write than others


def initialise(model: LLaDA, std: float, seed: int) -> None:
    """Normal weights; those that write to the residual stream are scaled down by its depth."""
    generator = torch.Generator().manual_seed(seed)
    depth = len(model.parts["blocks"])
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            writes = "blocks" in name and ("attn_out" in name or "ff_out" in name)
            nn.init.normal_(weight, std=std / math.sqrt(2 * depth) if writes else std, generator=generator)
    _see_neighbours(model, std)


@torch.no_grad()
def _see_neighbours(model: LLaDA, std: float) -> None:
    """Let each of a few heads read one neighbour of a token: the one before it or behind it, or the next but one.

    To look up who has what, a model first has to know of each token what stands beside it (of an option's letter: two
    tokens behind it), and to find that by gradients alone takes it far longer than the rest of the look-up.
    """
    config, block = model.config, model.parts["blocks"][0]
    head, half = config.head, config.head // 2
    embedding = model.parts["wte"].weight
    embedding[:, 0] = std * _CONSTANT
    # What RMSNorm makes of that entry, and so how large queries and keys have to be.
    entry = _CONSTANT / math.sqrt((config.d_model - 1 + _CONSTANT**2) / config.d_model)
    size = math.sqrt(_SHARPNESS * math.sqrt(head)) / entry
    planes = min(_PLANES, half)
    frequency = config.rope_theta ** (-torch.arange(planes) / half)
    zero = torch.zeros(head, config.d_model)
    for i, offset in enumerate(NEIGHBOURS[: config.n_heads]):
        rows = slice(i * head, (i + 1) * head)
        query, key = zero.clone(), zero.clone()
        query[:planes, 0] = size
        key[:planes, 0] = size * torch.cos(offset * frequency)
        key[half : half + planes, 0] = size * torch.sin(offset * frequency)
        block.q_proj.weight[rows], block.k_proj.weight[rows] = query, key
        block.v_proj.weight[rows, 0] = 0.0
        block.attn_out.weight[:, rows] *= _LOUDER

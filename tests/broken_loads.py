"""Ways to load a model that fail on the ranks that follow; apart from the tests, since followers import this."""

import torch

from odb_dllm import DiffusionModel, InputError
from odb_dllm.models.weights import load_weights
from odb_dllm.tensor_parallel.peers import Peers


def nothing(model: DiffusionModel, peers: Peers) -> None:
    """Followers get no weights."""
    if peers.rank:
        raise InputError("The disk of this rank is gone.")


def wrong_norm(model: DiffusionModel, peers: Peers) -> None:
    """Followers get a norm with which their forwards fail."""
    load_weights(model, peers, adapter=None)
    if peers.rank:
        model.network.parts["ln_f"].weight = torch.nn.Parameter(torch.ones(3), requires_grad=False)

"""A checkpoint's safetensors files: which they are, whether they fit, and how a network gets its weights from them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from torch import nn
from tqdm import tqdm

from odb_dllm.errors import InputError
from odb_dllm.models.lora import cut_adapter, merge_adapter, read_adapter
from odb_dllm.tensor_parallel.sharding import shard

if TYPE_CHECKING:
    from odb_dllm.models.loading import DiffusionModel
    from odb_dllm.tensor_parallel.peers import Peers

QUIET_BYTES = 256 * 2**20  # weights below this load without a progress bar


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's safetensors files: one, or the shards that its index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{index} is not a readable index of shards: {error!r}.") from None
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise InputError(f"{index} names files outside its folder.")
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and not index.is_file():
        pickles = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        also = f" ({pickles[0]} is a pickle, which is never loaded)" if pickles else ""
        raise InputError(f"There is no model.safetensors in {folder}{also}: only safetensors are accepted.")
    if missing:
        raise InputError(f"{len(missing)} of {len(names)} shards are missing in {folder}, among them {missing[0]}.")
    return [folder / name for name in names]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is no readable safetensors file (truncated or corrupt?): {error}.") from None


def check_tensors(network: nn.Module, files: list[Path]) -> None:
    """Compare names and shapes with the network's, from the headers alone."""
    expected = {name: tuple(value.shape) for name, value in network.named_parameters()}
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        with _open(path) as shard:
            for name in shard.keys():  # noqa: SIM118 (not a dict)
                view = shard.get_slice(name)
                if not view.get_dtype().startswith(("F", "BF")):
                    raise InputError(f"{path}: tensor {name} is {view.get_dtype()}, only float weights are supported.")
                found[name] = tuple(view.get_shape())
    where = f"The checkpoint in {files[0].parent}"
    if missing := sorted(expected.keys() - found.keys()):
        raise InputError(f"{where} lacks {len(missing)} of {len(expected)} tensors, among them {missing[0]}.")
    if extra := sorted(found.keys() - expected.keys()):
        raise InputError(f"{where} holds {len(extra)} tensors that its config.json has no place for: {extra[0]}.")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(
                f"{where} does not fit its config.json: tensor {name} has shape {list(found[name])} instead of "
                f"{list(shape)}."
            )


def load_weights(model: "DiffusionModel", peers: "Peers | None", *, adapter: Path | None) -> None:
    """Give a blank network its weights, or a rank's part of them, and merge an adapter into them.

    Never more than the network's own weights and one tensor of the files is in memory.

    Args:
        peers: the ranks that share the model; None: this process has it alone.
        adapter: folder of a LoRA adapter.

    Raises:
        InputError: an adapter that does not fit, or files that cannot be read.
    """
    network, files = model.network, weight_files(model.path)
    lora = None if adapter is None else read_adapter(network, adapter)
    cuts = {} if peers is None else shard(network, peers)
    total = sum(value.numel() for value in network.parameters()) * model.dtype.itemsize
    bar = tqdm(
        total=total,
        desc="Loading weights",
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=total < QUIET_BYTES or (peers is not None and peers.rank > 0),
    )
    with bar:
        for path in files:
            with _open(path) as file:
                for name in file.keys():  # noqa: SIM118
                    parent, _, leaf = name.rpartition(".")
                    whole = parent not in cuts
                    tensor = file.get_tensor(name) if whole else cuts[parent].of(leaf, file.get_slice(name))
                    # A copy of its own: the file may change or vanish later.
                    weight = tensor.to(device=model.device, dtype=model.dtype, copy=True)
                    network.get_submodule(parent).register_parameter(leaf, nn.Parameter(weight, requires_grad=False))
                    bar.update(weight.nbytes)
    if lora is not None:
        merge_adapter(network, cut_adapter(lora, cuts))

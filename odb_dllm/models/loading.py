"""Load a model from a folder, the hub or the package: config.json, safetensors and, if there is one, a tokenizer."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from odb_dllm.errors import InputError, nearest
from odb_dllm.models import family_class
from odb_dllm.models.weights import check_tensors, load_weights, weight_files
from odb_dllm.prefixes import Spent
from odb_dllm.tensor_parallel import sharding
from odb_dllm.tensor_parallel.group import Group, check_machine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMBEDDED = {"tiny": Path(__file__).parents[1] / "tiny" / "model"}
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
DTYPE_ALIASES = {
    "double": "float64", "float": "float32", "half": "float16",
    "fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16",
}  # fmt: skip
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
END_OF_TURN = "<|eot_id|>"
ENGINES = ("auto", "plain", "fast")


@dataclass(frozen=True)
class TokenIds:
    """Special token ids."""

    mask: int
    eos: int
    end_of_turn: int | None = None


@dataclass
class DiffusionModel:
    """A network with its weights, and what is needed to use it."""

    name: str  # as it was asked for
    path: Path
    network: Any  # nn.Module with shift, config, forward and logits
    config: dict[str, Any]  # config.json
    device: torch.device
    dtype: torch.dtype
    tokenizer: "PreTrainedTokenizerBase | None"
    ids: TokenIds
    vocab_size: int  # columns of the logits
    predictable: int  # ids from here on are in no tokenizer and are never predicted
    max_length: int  # prompt + response
    group: Group | None = field(default=None, repr=False, compare=False)  # the followers, where several ranks share it
    engine: str = "auto"  # one of ENGINES: what answers for it (odb_dllm.fast.make_engine)
    spent: Spent = field(default_factory=Spent, repr=False, compare=False)  # on prefixes that sequences share
    fast_engine: Any = field(default=None, init=False, repr=False, compare=False)  # made at first use, and kept

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """Layers, key-value heads (of this rank) and head width."""
        config = self.network.config
        return config.n_layers, getattr(self.network, "kv_heads", config.n_kv_heads), config.head

    @property
    def capture_seconds(self) -> float:
        """Seconds that its engine has spent on capturing graphs so far; they are part of no generation's time."""
        engine = self.fast_engine if self.group is None else self.group.local.fast_engine
        return 0.0 if engine is None else float(engine.capture_seconds)

    def close(self) -> None:
        """End the followers of a model that was loaded with ``tensor_parallel``; it cannot be used any more then."""
        if self.group is not None:
            self.group.close()


def load_model(
    pretrained: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    peft: str | os.PathLike[str] | None = None,
    tensor_parallel: int = 1,
    engine: str = "auto",
) -> DiffusionModel:
    """Load a masked-diffusion language model for ``generate``.

    Args:
        pretrained: a local folder, a hub id (``GSAI-ML/LLaDA-8B-Instruct``) or ``tiny``, the embedded model.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None takes a GPU where there is one.
        dtype: float64, float32, float16 or bfloat16, by name or as torch.dtype; None is bfloat16 on CUDA and
            float32 on the CPU.
        peft: a folder with a LoRA adapter, which is merged into the weights.
        tensor_parallel: processes that share the model, each on a GPU of its own from ``device`` on, or all on the
            CPU. They end with the model (``DiffusionModel.close``) and with this process.
        engine: ``plain``, ``fast`` or ``auto``, which is fast on CUDA; the model's ``engine`` may be changed later.

    Raises:
        InputError: one sentence on what is missing, corrupt or not supported.
    """
    device_, dtype_ = parse_device(device), parse_dtype(dtype)
    if dtype_ is None:
        dtype_ = torch.bfloat16 if device_.type == "cuda" else torch.float32
    check_machine(tensor_parallel, device_)
    engine = parse_engine(engine)
    folder = find_folder(str(pretrained))
    config = read_config(folder)
    network = blank_network(config)
    sharding.check(network, tensor_parallel)
    check_tensors(network, weight_files(folder))
    tokenizer = load_tokenizer(folder)
    limit = network.config.vocab_size
    entries = 0 if tokenizer is None else max(tokenizer.get_vocab().values(), default=-1) + 1
    if entries > limit:
        raise InputError(
            f"The tokenizer in {folder} has {entries} entries, the model's vocabulary only {limit}: they do "
            "not belong together."
        )
    model = DiffusionModel(
        name=str(pretrained),
        path=folder,
        network=network.eval(),
        config=config,
        device=device_,
        dtype=dtype_,
        tokenizer=tokenizer,
        ids=TokenIds(network.config.mask_token_id, network.config.eos_token_id, _end_of_turn(network, tokenizer)),
        vocab_size=limit,
        predictable=limit if tokenizer is None else entries,
        max_length=network.config.max_sequence_length,
        engine=engine,
    )
    load = partial(load_weights, adapter=None if peft is None else Path(peft).expanduser())
    if tensor_parallel == 1:
        load(model, None)
    else:
        model.group = Group.start(model, tensor_parallel, load)
    return model


def blank_network(config: dict[str, Any]) -> Any:
    """The network that a config.json describes, on the meta device: sizes without weights."""
    with torch.device("meta"):
        return family_class(config.get("model_type")).from_config(config)


def parse_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; ``InputError`` where it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"Unknown device {device!r}: accepted are cpu, cuda and cuda:N.") from None
    if parsed.type not in ("cpu", "cuda"):
        raise InputError(f"Device {str(device)!r} is not supported: accepted are cpu, cuda and cuda:N.")
    if parsed.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (parsed.index or 0) >= count:
            raise InputError(f"Device {str(device)!r} was asked for, but {count} CUDA devices are usable: use cpu.")
    return parsed


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The dtype by name or as it is; None for None, "none" and "auto"."""
    name = str(dtype).removeprefix("torch.").lower()
    if name in ("none", "auto"):
        return None
    name = DTYPE_ALIASES.get(name, name)
    if name not in DTYPES:
        raise InputError(f"Unknown dtype {name!r}: {nearest(name, list(DTYPES))}.")
    return DTYPES[name]


def parse_engine(engine: str) -> str:
    """One of ``ENGINES`` in any case; ``InputError`` lists them."""
    name = str(engine).lower()
    if name not in ENGINES:
        raise InputError(f"Unknown engine {engine!r}: {nearest(name, list(ENGINES))}.")
    return name


def find_folder(pretrained: str) -> Path:
    """The folder of a checkpoint, fetched from the hub where ``pretrained`` is a hub id."""
    if pretrained in EMBEDDED:
        return EMBEDDED[pretrained]
    folder = Path(pretrained).expanduser()
    if pretrained and folder.is_dir():
        return folder
    if not is_hub_id(pretrained):
        raise InputError(
            f"Model {pretrained!r} is no folder: give a folder with config.json and safetensors, a hub id such as "
            f"GSAI-ML/LLaDA-8B-Instruct, or {', '.join(EMBEDDED)}."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(pretrained, allow_patterns=HUB_FILES))
    except Exception as error:  # whatever the hub client raises: offline, unknown, gated
        raise InputError(
            f"Model {pretrained!r} is no folder and could not be had from the hub: {_first_line(error)}"
        ) from None


def is_hub_id(pretrained: str) -> bool:
    """Whether a model's name means one on the hub: owner/name, and no path that exists here."""
    owner, _, name = pretrained.partition("/")
    known = pretrained in EMBEDDED or Path(pretrained).expanduser().exists()
    return bool(owner and name) and "/" not in name and owner not in (".", "..", "~") and not known


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dict."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"There is no config.json in {folder}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold a JSON object, not {type(config).__name__}.")
    return config


def load_tokenizer(folder: Path, add_bos: bool | None = None) -> "PreTrainedTokenizerBase | None":
    """The tokenizer in a folder; None where it has none.

    Args:
        folder: whose config.json names the model family, where there is one.
        add_bos: whether it puts BOS before a text that special tokens are added to; None: where the family's
            prompts begin with it, and as its own files say otherwise.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    if not any((folder / name).is_file() for name in TOKENIZER_FILES if name != "tokenizer_config.json"):
        raise InputError(f"The tokenizer in {folder} could not be loaded: there is a tokenizer_config.json alone.")
    import transformers

    family = _family_in(folder)
    # The file alone says everything; AutoTokenizer would ask config.json for a model that transformers lacks.
    class_ = "PreTrainedTokenizerFast" if (folder / "tokenizer.json").is_file() else "AutoTokenizer"
    if class_ == "AutoTokenizer" and (folder / "vocab.json").is_file():
        class_ = getattr(family, "tokenizer_class", class_)
    try:
        with held_stderr():
            tokenizer = getattr(transformers, class_).from_pretrained(str(folder), trust_remote_code=False)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # on a corrupt file the tokenizers library raises Exception, or panics
        raise InputError(f"The tokenizer in {folder} could not be loaded: {_first_line(error)}") from None
    wanted = getattr(family, "adds_bos", False) and tokenizer.bos_token is not None if add_bos is None else add_bos
    if wanted:
        _prepend_bos(tokenizer, folder)
    return tokenizer


def _family_in(folder: Path) -> Any:
    """The family class that a folder's config.json names; None where there is no such file or no such family."""
    try:
        return family_class(read_config(folder).get("model_type"))
    except InputError:  # a folder with a tokenizer alone
        return None


def _prepend_bos(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Let ``encode`` put BOS first, unless it does so already or is told to add no special tokens."""
    from tokenizers.processors import TemplateProcessing

    bos = tokenizer.bos_token
    if bos is None or not tokenizer.is_fast:
        raise InputError(f"The tokenizer in {folder} has no BOS token that texts could begin with.")
    if tokenizer.encode("a")[0] == tokenizer.bos_token_id:
        return
    special = [(str(bos), int(tokenizer.bos_token_id))]
    # backend_tokenizer is the one that encodes; what was there before only shifts offsets, which nobody reads.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=special)


@contextmanager
def held_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and drop it where an exception says more.

    A panic in a library writes its own trace there, past Python.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        try:
            os.dup2(held.fileno(), 2)
            yield
            sys.stderr.flush()
            held.seek(0)
            os.write(saved, held.read())
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _end_of_turn(network: nn.Module, tokenizer: "PreTrainedTokenizerBase | None") -> int | None:
    token = getattr(network, "end_of_turn", END_OF_TURN)
    if tokenizer is None or token not in tokenizer.get_vocab():
        return None
    return int(tokenizer.convert_tokens_to_ids(token))

"""Model arguments: from the loose values that command lines and lm-eval give to checked ones.

Nothing here loads a model or imports lm-eval; every mistake is an ``InputError``.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from odb_dllm.benchmarks import FAMILIES
from odb_dllm.errors import InputError, nearest
from odb_dllm.expressions import switched
from odb_dllm.models.loading import parse_dtype, parse_engine
from odb_dllm.presets import get_setting
from odb_dllm.setting_values import SETTING_FIELDS, literal, setting_value
from odb_dllm.settings import Setting
from odb_dllm.splitting import separated

OWN = (
    "pretrained", "model_path", "peft", "setting", "family", "dtype", "device", "batch_size", "max_batch_size",
    "add_bos_token", "mc_num", "check_greedy", "statistics", "trust_remote_code", "tensor_parallel",
    "engine",
)  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    """Checked model arguments."""

    pretrained: str
    setting: Setting
    explicit: frozenset[str]  # the setting's fields that were given one by one, beside its name or within it
    peft: Path | None = None  # folder of a LoRA adapter
    family: str | None = None  # one of FAMILIES; None tells it from the model
    dtype: str | None = None  # a name torch knows; None = bfloat16 on CUDA, float32 on the CPU
    device: str | None = None  # cpu, cuda or cuda:N; None = CUDA where there is one
    batch_size: int = 1
    add_bos_token: bool | None = None  # whether prompts begin with BOS; None = as the model's family does
    mc_num: int = 128  # Monte-Carlo draws per likelihood
    check_greedy: bool = True  # whether a likelihood also tells if the continuation is the greedy one
    statistics: Path | None = None  # JSONL file of per-sample statistics
    tensor_parallel: int = 1  # processes that share the model, each on a GPU of its own
    engine: str = "auto"  # plain, fast, or auto: fast on CUDA


def parse(given: Mapping[str, Any]) -> Arguments:
    """Check model arguments as lm-eval passes them: names known, values of the right kind and range.

    Strings such as ``"None"`` and ``"256"`` mean the values they spell. Raises ``InputError``.
    """
    valid = [*OWN, *SETTING_FIELDS]
    for name in given:
        if name not in valid:
            raise InputError(f"Unknown model argument {name!r}: {nearest(name, valid)}.")
    if _flag("trust_remote_code", given.get("trust_remote_code")):
        raise InputError("trust_remote_code must be left out: no code of a checkpoint is ever run.")
    overrides = {name: setting_value(name, given[name]) for name in SETTING_FIELDS if name in given}
    name = given.get("setting", "jump-share")
    setting = get_setting(name if isinstance(name, Setting) else str(name), **overrides)
    return Arguments(
        pretrained=_pretrained(given),
        setting=setting,
        explicit=frozenset([*overrides, *(switched(name) if isinstance(name, str) else ())]),
        peft=_adapter(given.get("peft")),
        family=_family(given.get("family")),
        dtype=_dtype(given.get("dtype")),
        device=_device(given.get("device")),
        batch_size=_batch_size(given.get("batch_size"), given.get("max_batch_size")),
        add_bos_token=_optional_flag("add_bos_token", given.get("add_bos_token")),
        mc_num=_positive("mc_num", given.get("mc_num", 128)),
        check_greedy=_flag("check_greedy", given.get("check_greedy", True)),
        statistics=_file("statistics", given.get("statistics")),
        tensor_parallel=_positive("tensor_parallel", given.get("tensor_parallel", 1)),
        engine=parse_engine(given.get("engine") or "auto"),
    )


def fingerprint(arguments: Arguments, *, device: str, dtype: str, digest: str, version: str) -> str:
    """Return a hash of everything but the request that decides a text; batch size and statistics do not.

    ``device`` is the kind of device: CPU and GPU round differently, and so do dtypes, engines and sums over several
    processes.
    """
    decides = {
        "version": version,
        "model": digest,
        "device": device,
        "dtype": dtype,
        "tensor_parallel": arguments.tensor_parallel,
        "engine": arguments.engine,
        "peft": None if arguments.peft is None else folder_digest(arguments.peft),
        "add_bos_token": arguments.add_bos_token,
        "family": arguments.family,
        "setting": {key: _named(value) for key, value in asdict(arguments.setting).items()},
        "explicit": sorted(arguments.explicit & {"gen_length", "temperature", "stop", "theta", "eos_guard"}),
        "likelihood": [arguments.mc_num, arguments.check_greedy],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _named(value: Any) -> str:
    """A value as text; a function by where it is defined, since its address says nothing."""
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else str(value)


def folder_digest(folder: Path, whole: int = 64 * 2**20, chunks: int = 256, size: int = 2**16) -> str:
    """Return a hash that tells checkpoints apart without reading all of their gigabytes.

    Every JSON file counts in full, and so does a weight file of at most ``whole`` bytes; of a larger one its
    size and ``chunks`` pieces of ``size`` bytes, spread from its first byte to its last.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        length = path.stat().st_size
        if path.suffix == ".json" or (path.suffix == ".safetensors" and length <= whole):
            digest.update(f"{path.name} {length} ".encode() + path.read_bytes())
        elif path.suffix == ".safetensors":
            digest.update(f"{path.name} {length} ".encode())
            with path.open("rb") as file:
                for i in range(chunks):
                    file.seek((length - size) * i // (chunks - 1))
                    digest.update(file.read(size))
    return digest.hexdigest()


def from_string(text: str) -> dict[str, str]:
    """Split ``a=1,b=[2,3]`` at the commas outside of brackets and quotes."""
    given = {}
    for part in separated(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"Model arguments are name=value pairs, which {part!r} is not.")
        given[name.strip()] = value.strip()
    return given


def _pretrained(given: Mapping[str, Any]) -> str:
    names = {str(given[key]) for key in ("pretrained", "model_path") if given.get(key) not in (None, "")}
    if not names:
        raise InputError("No model: give pretrained=<folder, hub id or tiny>.")
    if len(names) > 1:
        raise InputError("pretrained and model_path name two different models; give one of them.")
    return names.pop()


def _family(value: Any) -> str | None:
    if value is None or str(value).lower() == "none":
        return None
    if value not in FAMILIES:
        raise InputError(f"Unknown family {value!r}: {nearest(str(value), list(FAMILIES))}.")
    return str(value)


def _adapter(value: Any) -> Path | None:
    if value in (None, "", "None"):
        return None
    folder = Path(str(value)).expanduser()
    if not folder.is_dir():
        raise InputError(f"peft must be a folder with a LoRA adapter, which {str(value)!r} is not.")
    return folder


def _dtype(value: Any) -> str | None:
    dtype = parse_dtype(value)
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _device(value: Any) -> str | None:
    name = str(value).lower()
    if value is None or name in ("auto", "none"):
        return None
    if re.fullmatch(r"cpu|cuda(:\d+)?", name):
        return name
    if re.fullmatch(r"(cuda:)?\d+(,\d+)+", name):
        raise InputError(f"device {value!r} names several GPUs: give the first, and tensor_parallel=N to use N.")
    raise InputError(f"Unknown device {value!r}: {nearest(name, ['cpu', 'cuda', 'cuda:0'])}.")


def _file(name: str, value: Any) -> Path | None:
    if value in (None, "", "None"):
        return None
    if Path(str(value)).is_dir():
        raise InputError(f"{name} must name a file to write, and {str(value)!r} is a folder.")
    return Path(str(value))


def _batch_size(value: Any, most: Any) -> int:
    if str(value).startswith("auto"):
        return 1 if most is None else _positive("max_batch_size", most)
    size = 1 if value is None else _positive("batch_size", value)
    return size if most is None else min(size, _positive("max_batch_size", most))


def _positive(name: str, value: Any) -> int:
    number = literal(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}.")
    return number


def _flag(name: str, value: Any) -> bool:
    flag = literal(value)
    if flag is not None and not isinstance(flag, bool):
        raise InputError(f"{name} must be True or False, not {value!r}.")
    return bool(flag)


def _optional_flag(name: str, value: Any) -> bool | None:
    return None if literal(value) is None else _flag(name, value)

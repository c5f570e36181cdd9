"""What an offline run needs: the model, its tokenizer and the benchmarks' data. Nothing here asks the network."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from odb_dllm.benchmarks import BENCHMARKS
from odb_dllm.data import survey
from odb_dllm.doctor.finding import Finding, python
from odb_dllm.errors import InputError
from odb_dllm.models import family_class
from odb_dllm.models.loading import (
    EMBEDDED,
    HUB_FILES,
    check_tensors,
    find_folder,
    load_tokenizer,
    read_config,
    weight_files,
)

# Where lm-eval says from which data set each benchmark is downloaded.
SOURCES = {
    "gsm8k": "gsm8k/gsm8k.yaml",
    "minerva_math": "minerva_math/minerva_math_algebra.yaml",
    "bbh": "bbh/cot_fewshot/_cot_fewshot_template_yaml",
    "humaneval": "humaneval/humaneval.yaml",
    "mbpp": "mbpp/mbpp.yaml",
}


def is_offline() -> bool:
    """Whether the hub is out of bounds by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def hub() -> Finding:
    """Whether the hub may be asked."""
    if is_offline():
        return Finding("ok", "hub", "offline: HF_HUB_OFFLINE is set, nothing is downloaded")
    return Finding("ok", "hub", "may be asked for what is not here; HF_HUB_OFFLINE=1 forbids it")


def checkpoint(name: str) -> Iterator[Finding]:
    """Whether a model is here and whole: config.json, the headers of its weights, and its tokenizer."""
    command = f"from huggingface_hub import snapshot_download; snapshot_download({name!r})"
    fetch = f"HF_HUB_OFFLINE=0 {python(command)}"
    try:
        folder, place = find_here(name)
    except InputError as error:
        if is_folder(name) or is_offline():
            yield Finding("missing", "model", str(error), None if is_folder(name) else fetch)
        else:
            yield Finding("warning", "model", f"{error} It is downloaded when first used.", fetch)
        return
    # What a folder of one's own should hold only its owner knows.
    again = fetch if place == "hub cache" else f"hf download <hub id> --local-dir {shlex.quote(str(folder))}"
    try:
        config = read_config(folder)
        with torch.device("meta"):
            network = family_class(config.get("model_type")).from_config(config)
        check_tensors(network, weight_files(folder))
        count = sum(weight.numel() for weight in network.parameters())
        yield Finding("ok", "model", f"{name}, {count / 1e6:,.1f} M parameters ({place}: {folder})")
    except InputError as error:
        yield Finding("missing", "model", str(error), again)
    try:
        tokenizer = load_tokenizer(folder)
    except InputError as error:
        yield Finding("missing", "tokenizer", str(error), again)
        return
    if tokenizer is None:
        yield Finding("missing", "tokenizer", f"none in {folder}, and lm-eval's tasks are text", again)
    else:
        yield Finding("ok", "tokenizer", f"{len(tokenizer)} entries")


def is_folder(name: str) -> bool:
    """Whether a model's name is embedded or a path, and no hub id."""
    path = Path(name).expanduser()
    return name in EMBEDDED or path.exists() or len(path.parts) != 2 or name.startswith(("/", "~", "."))


def find_here(name: str) -> tuple[Path, str]:
    """A checkpoint's folder and what kind of place that is, without asking the network.

    Raises ``InputError`` where it is not on this machine.
    """
    if is_folder(name):
        return find_folder(name), "embedded" if name in EMBEDDED else "local folder"
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True)), "hub cache"
    except Exception:  # the hub client's own errors, and those of a malformed id
        raise InputError(f"{name} is neither a folder nor in the hub cache: an offline run cannot have it.") from None


def data(data_dir: str | None) -> Iterator[Finding]:
    """Which benchmarks can be had without a network."""
    yield Finding("ok", "data", "gsm8k_mini and four other miniature benchmarks are embedded")
    whole: list[str] = []
    flawed: list[str] = []
    if data_dir is not None:
        try:
            found = survey(Path(data_dir).expanduser())
        except InputError as error:
            yield Finding("missing", "data", str(error), "export DATA_DIR=<a folder that holds gsm8k/test.jsonl>")
            return
        names = {name: "minerva_math" if name == "math" else name for name in found}
        whole = [names[name] for name, each in found.items() if each.complete]
        flawed = [names[name] for name, each in found.items() if not each.complete and any(each.documents.values())]
    cached = [name for name in BENCHMARKS if name not in whole and _in_hub_cache(name)]
    if whole:
        yield Finding("ok", "data", f"{', '.join(whole)} in {data_dir}")
    if cached:
        yield Finding("ok", "data", f"{', '.join(cached)} in the hub cache")
    if flawed:
        text = f"{', '.join(flawed)} in {data_dir}, but not as published"
        yield Finding("warning", "data", text, f"odb-dllm data check {shlex.quote(str(data_dir))}")
    if others := [name for name in BENCHMARKS if name not in {*whole, *cached, *flawed}]:
        code = f"from lm_eval.tasks import TaskManager; TaskManager().load({others!r})"
        fetch = f"HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0 HF_ALLOW_CODE_EVAL=1 {python(code)}"
        carry = "DATA_DIR=<folder>, laid out as docs/data.md says; `odb-dllm data check <folder>` checks it"
        fate, mend = ("and the hub is out of bounds", carry) if is_offline() else ("downloaded when first run", fetch)
        yield Finding("warning", "data", f"{', '.join(others)}: not here, {fate}", mend)


def _in_hub_cache(benchmark: str) -> bool:
    """Whether the data set that lm-eval's task downloads is in the cache."""
    from huggingface_hub import constants

    spec = importlib.util.find_spec("lm_eval")
    for folder in (spec and spec.submodule_search_locations) or []:
        source = Path(folder) / "tasks" / SOURCES[benchmark]
        with suppress(OSError):
            named = re.search(r"^dataset_path:\s*(\S+)", source.read_text(encoding="utf-8"), re.MULTILINE)
            cache = Path(constants.HF_HUB_CACHE) / f"datasets--{named[1].replace('/', '--')}" if named else None
            return cache is not None and any((cache / "snapshots").glob("*/*"))
    return False

"""The run of ``odb-dllm certify``: prompts, what is compared, the file."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from odb_dllm.bench.expand import load_embedded
from odb_dllm.benchmarks import resolve
from odb_dllm.certify import PROMPTS, batches
from odb_dllm.certify.divergence import first_divergence
from odb_dllm.certify.document import ENGINES, Certificate, Comparison, Sides, describe
from odb_dllm.certify.runs import generations, progress, short
from odb_dllm.errors import InputError
from odb_dllm.fast import make_engine
from odb_dllm.generation import Generation
from odb_dllm.models.loading import EMBEDDED, DiffusionModel, load_model, parse_device, parse_dtype
from odb_dllm.presets import get_setting
from odb_dllm.scheduler import Request, check
from odb_dllm.settings import Setting
from odb_dllm.splitting import separated

BUILT_IN = EMBEDDED["tiny"].parent / "tasks" / "gsm8k_mini" / "test.jsonl"


def certify(args: argparse.Namespace) -> int:
    """Run the verb: 0, or 1 where fewer generations than required are equal. Raises ``InputError`` at once."""
    settings = _settings(args)
    for setting in settings:
        if setting.prefix == "shared":
            raise InputError(f"{setting.name} shares a prefix, and prompts are compared one by one: leave prefix out.")
    texts = _texts(args.prompts_file, args.prompts)
    out, sides = _out(args.out), _sides(args.batch_size, len(texts))
    if not 0 <= args.require <= 1:
        raise InputError(f"--require must lie between 0 and 1, not {args.require}.")
    model = _load(args)
    if model.tokenizer is None:
        raise InputError(f"{args.model} has no tokenizer, and the prompts are text.")
    requests = _requests(model, settings, [model.tokenizer.encode(text) for text in texts])
    certificate = Certificate(describe(model), args.gen_length, args.require, len(texts), len(settings), sides)
    compare = _compare if args.batch_size is None else batches.compare
    try:
        compare(model, requests, certificate)
    finally:  # also what was compared until an interrupt
        if certificate.results:
            _tell(certificate, out)
        else:
            print("Nothing was compared yet.", file=sys.stderr)
    return 0 if certificate.passed else 1


def _load(args: argparse.Namespace) -> DiffusionModel:
    if args.shape is None:
        return load_model(args.model, device=args.device, dtype=args.dtype, peft=args.peft)
    if args.model != "tiny" or args.peft is not None:
        raise InputError("--shape takes the embedded model: leave out --model and --peft.")
    return load_embedded(args.shape, device=parse_device(args.device), dtype=parse_dtype(args.dtype))


def _settings(args: argparse.Namespace) -> list[Setting]:
    found = [get_setting(name, gen_length=args.gen_length) for name in separated(args.settings)]
    if not found:
        raise InputError("--settings names no setting: give one or more, with commas between them.")
    return list({setting.name: setting for setting in found}.values())


def _texts(file: str | None, count: int | None) -> list[str]:
    """Prompts from a file, or the built-in ones; so many of them at most."""
    if count is not None and count < 1:
        raise InputError(f"--prompts must be at least 1, not {count}.")
    if file is None:
        problems = [json.loads(line)["question"] for line in BUILT_IN.read_text(encoding="utf-8").splitlines()]
        texts, count = [f"Question: {each}\nAnswer:" for each in problems], count or PROMPTS
    else:
        texts = _read(Path(file))
    if count is not None and count > len(texts):
        raise InputError(f"--prompts {count} is more than the {len(texts)} that there are.")
    return texts[:count]


def _read(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        texts = [json.loads(line)["prompt"] for line in lines] if path.suffix == ".jsonl" else lines
    except OSError as error:
        raise InputError(f"The prompts in {path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        texts = []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f'{path} holds no prompts: a text a line is expected, or {{"prompt": ...}} in a .jsonl.')
    return texts


def _sides(batch_size: int | None, prompts: int) -> Sides:
    if batch_size is None:
        return ENGINES
    if batch_size < 2:
        raise InputError(f"--batch_size must be at least 2, not {batch_size}.")
    if batch_size > prompts:
        raise InputError(f"--batch_size {batch_size} is more than the {prompts} prompts: give as many with --prompts.")
    return Sides.batches(batch_size)


def _out(name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--out {path} cannot be a file: it is a folder, or its own folder is not there.")
    return path


def _tell(certificate: Certificate, out: Path | None) -> None:
    """Write the certificate, or print it."""
    if out is None:
        print(certificate.markdown())
        return
    as_json = out.suffix == ".json"
    text = json.dumps(certificate.document(), indent=1) if as_json else certificate.markdown()
    out.write_text(text + "\n", encoding="utf-8")
    print(f"written to {out}\n{certificate.verdict}")


def _requests(
    model: DiffusionModel, settings: Sequence[Setting], prompts: Sequence[Sequence[int]]
) -> list[list[Request]]:
    """Every prompt under every setting; ``InputError`` where one of them is too much for the model."""
    resolved = [resolve(model, setting) for setting in settings]
    requests = [[Request(prompt, *each, index) for index, prompt in enumerate(prompts)] for each in resolved]
    check(model, [request for each in requests for request in each])
    return requests


def _compare(model: DiffusionModel, requests: Sequence[Sequence[Request]], certificate: Certificate) -> None:
    """Answer every request on both engines."""
    plain, fast = replace(model, engine="plain"), replace(model, engine="fast")
    make_engine(fast)  # which refuses a network that it cannot run
    with progress(certificate) as bar:
        for asked in requests:
            for each in (plain, fast):
                _generate(each, short(asked[0]))
            for request in asked:
                made = [_generate(each, request) for each in (plain, fast)]
                same = made[0].tokens == made[1].tokens
                parted = None if same else first_divergence(plain, fast, request)
                name = request.setting.name
                certificate.results.append(Comparison.of(name, request.sequence, made[0], made[1], parted))
                bar.set_postfix_str(certificate.pace(), refresh=False)
                bar.update()
    certificate.capture_seconds = fast.capture_seconds


def _generate(model: DiffusionModel, request: Request) -> Generation:
    ((_, made),) = generations(model, [request])
    return made

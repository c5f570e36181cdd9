"""``odb-dllm bench``: what a machine can do, what our forwards and generations make of it, as tables and as JSON."""

import argparse
import ast
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from odb_dllm.errors import InputError
from odb_dllm.splitting import separated
from odb_dllm.statistics import markdown

# Mission settings; the others differ from these in nothing that costs time.
SETTINGS = ("fast_dllm_baseline", "alp", "accept-jump", "jump-share")
FULL: dict[str, Any] = {
    "floor": (1, 32, 64, 128, 160, 192, 256, 512, 1024, 2048),
    "steps": {32: (300, 1200, 2048), 128: (300, 1200, 2048), 151: (300, 1200, 2048)},
    "refreshes": (300, 1200, 2048),
    "prompt": 1000,
    "gen_length": 1024,
}
SMALL: dict[str, Any] = {
    "floor": (1, 32, 128, 256),
    "steps": {32: (100, 300), 128: (300,), 151: (300,)},
    "refreshes": (100, 300),
    "prompt": 100,
    "gen_length": 96,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own flags."""
    parser.add_argument(
        "--shape", choices=("tiny", "8b"), help="shapes of the embedded checkpoint (default: 8b on CUDA)"
    )
    parser.add_argument("--dense", action="store_true", help="turn the residual stream, so that no activation is zero")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument("--dtype", help="default: bfloat16 on CUDA, float32 on the CPU")
    parser.add_argument(
        "--settings", default=",".join(SETTINGS), metavar="<a,b>", help=f"default: {','.join(SETTINGS)}"
    )
    parser.add_argument(
        "--setting_args",
        default="",
        metavar="<k=v,...>",
        help="switches of all of them, such as threshold=1 (few tokens a step) or gen_length=256,steps=96",
    )
    parser.add_argument("--engine", default="auto", metavar="<name>", help="plain, fast or auto: fast on CUDA (auto)")
    parser.add_argument(
        "--batches", default="", metavar="<1,8>", help="also run so many generations together, such as 1,2,4,8,16,32"
    )
    parser.add_argument(
        "--replay",
        metavar="<file>",
        help="time a recorded schedule of forwards instead: JSON, or the first sample of a file of traces",
    )
    parser.add_argument(
        "--tensor_parallel", type=int, default=1, metavar="<N>", help="compare forwards on one process and on N instead"
    )
    parser.add_argument("--out", metavar="<file.json>", help="also write all figures there")


def main(words: list[str]) -> int:
    """The verb by itself: the command's own parser is made from lm-eval's, which need not be installed."""
    parser = argparse.ArgumentParser(prog="odb-dllm bench", description="Measure forwards and generations")
    add_arguments(parser)
    return run(parser.parse_args(words))


def run(args: argparse.Namespace) -> int:
    """Run the benchmark; the exit code."""
    if args.tensor_parallel < 1:
        raise InputError(f"--tensor_parallel must be a whole number of at least 1, not {args.tensor_parallel}.")
    from odb_dllm.bench.expand import load_embedded
    from odb_dllm.bench.generations import few_shot_prompt, read_schedule, time_first_token
    from odb_dllm.models.loading import parse_device, parse_dtype, parse_engine
    from odb_dllm.presets import get_setting

    started = time.perf_counter()
    engine = parse_engine(args.engine)
    device, dtype = parse_device(args.device), parse_dtype(args.dtype)
    shape = args.shape or ("8b" if device.type == "cuda" else "tiny")
    sizes = FULL if shape == "8b" else SMALL
    switches = {"gen_length": sizes["gen_length"]} | _switches(args.setting_args)
    settings = [get_setting(name, **switches) for name in separated(args.settings)]
    if not settings:
        raise InputError("--settings names no setting: give one or more, with commas between them.")
    together = _sizes(args.batches)
    schedule = read_schedule(args.replay) if args.replay else None
    out = Path(args.out) if args.out else None
    if out and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"--out {out} cannot be a file: it is a folder, or its own folder is not there.")
    if args.dense and shape == "tiny":
        raise InputError("--dense turns the residual stream of larger shapes: give --shape 8b with it.")
    if args.tensor_parallel != 1:
        from odb_dllm.tensor_parallel.bench import compare

        _write(out, compare(shape, device, dtype, args.tensor_parallel, sizes, engine))
        return 0
    model = replace(load_embedded(shape, device=device, dtype=dtype, dense=args.dense), engine=engine)
    ready = time.perf_counter() - started
    first = time_first_token(model, few_shot_prompt(model, sizes["prompt"]), settings[0])
    print(f"{model.name}, {model.dtype} on {model.device}, engine {engine}: ready after {ready:.1f} s,", end=" ")
    print(f"first tokens {first:.1f} s after the process was started", flush=True)
    figures = {"shape": shape, "dense": args.dense, "engine": engine, "ready_seconds": ready}
    figures |= {"first_token_seconds": first}
    if schedule:
        figures |= _replayed(model, schedule)
    else:
        figures |= _measured(model, settings, sizes, together, out, small=shape == "tiny")
    print(f"graphs were captured in {model.capture_seconds:.1f} s, which are in no other figure but the first tokens'")
    _write(out, figures | {"capture_seconds": model.capture_seconds})
    return 0


def _switches(words: str) -> dict[str, Any]:
    """Fields of a setting and their values; raises ``InputError`` for words that are none."""
    found = {}
    for word in filter(None, (word.strip() for word in words.split(","))):
        name, equals, value = word.partition("=")
        if not equals:
            raise InputError(
                f"--setting_args takes fields and values, such as threshold=1,early_exit=False, not {word!r}."
            )
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def _sizes(words: str) -> list[int]:
    """The batches that were asked for; raises ``InputError``."""
    sizes = [word.strip() for word in words.split(",") if word.strip()]
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise InputError(f"--batches takes whole numbers from 1 with commas between them, such as 1,8, not {words!r}.")
    return [int(size) for size in sizes]


def _write(out: Path | None, figures: dict[str, Any]) -> None:
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"written to {out}")


def _measured(
    model: Any, settings: list[Any], sizes: dict[str, Any], together: list[int], out: Path | None, *, small: bool
) -> dict[str, Any]:
    from odb_dllm.bench import roofline, tables
    from odb_dllm.bench.batches import measure_batch
    from odb_dllm.bench.forwards import BLOCK, floor, measure_forwards
    from odb_dllm.bench.generations import few_shot_prompt, measure_run
    from odb_dllm.bench.machine import measure_machine

    machine = measure_machine(model.device, model.dtype, small=small)
    print(
        f"\n{machine.device}: copy {machine.copy_bytes_per_second / 1e9:.0f} GB/s, matrix products "
        f"{machine.flops_per_second / 1e12:.2f} TFLOP/s, ridge at {machine.ridge:.0f} FLOP/byte\n"
    )
    floors = {tokens: floor(model, tokens, min(tokens, BLOCK)) for tokens in sizes["floor"]}
    print(markdown([["tokens", *map(str, floors)], ["floor, ms", *(f"{1e3 * s:.2f}" for s in floors.values())]]))
    timings = measure_forwards(model, sizes["steps"], sizes["refreshes"])
    print("\n" + tables.forwards(timings) + "\n", flush=True)
    prompt = few_shot_prompt(model, sizes["prompt"])
    runs = [
        measure_run(model, prompt, each, each.gen_length, fills=fills) for each in settings for fills in (True, False)
    ]
    print(tables.generations(runs, machine))
    print("tokens/s of a model in other shapes than its own is no model's speed: read milliseconds per forward above")
    if out:
        print(roofline.draw(runs, machine, out))
    batches = [measure_batch(model, prompt, each, each.gen_length, size) for each in settings for size in together]
    if batches:
        print("\n" + tables.batches(batches))
    return {
        "machine": asdict(machine),
        "floor_seconds": floors,
        "forwards": [asdict(t) | {"ratio": t.ratio} for t in timings],
        "generations": [asdict(each) | {"host_seconds": each.host} for each in runs],
        "batches": [asdict(each) for each in batches],
    }


def _replayed(model: Any, schedule: list[tuple[str, int, int]]) -> dict[str, Any]:
    from odb_dllm.bench.generations import replay

    timings = replay(model, schedule)
    taken, least = sum(t.seconds for t in timings), sum(t.floor for t in timings)
    print(f"{len(timings)} forwards: {1e3 * taken:.1f} ms, floor {1e3 * least:.1f} ms, ratio {taken / least:.2f}")
    return {"seconds": taken, "floor_seconds": least, "forwards": [asdict(t) for t in timings]}

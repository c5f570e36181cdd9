"""``odb-dllm calibrate``: choose the θ of adaptive length prediction on a task's training documents.

θ is the confidence that every token of a predicted stop pattern must have for the canvas to be shortened to it. An
answer is **cut short** when the canvas that is left ends before the answer's last token, the answer being what the
model writes on the full canvas up to its first stop pattern (or the whole canvas, where it writes none).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from odb_dllm.calibrate import plot
from odb_dllm.calibrate.choice import GRID, Choice, Point, choose, summarise, table, verdict
from odb_dllm.calibrate.documents import instances
from odb_dllm.calibrate.replay import Recording, really_cut, record, reference, replay
from odb_dllm.errors import InputError
from odb_dllm.gen_kwargs import setting_of, until_of
from odb_dllm.run_arguments import include_folders

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from odb_dllm.lm_eval_model import ODBDiffusionLM
    from odb_dllm.scheduler import Request
    from odb_dllm.stopping import StopRule

MAX_CUT = 0.005


@dataclass(frozen=True)
class Trial:
    """The grid with the EOS guard on or off."""

    eos_guard: bool
    points: tuple[Point, ...]
    choice: Choice


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> argparse.ArgumentParser:
    """Add the verb to the command's parser."""
    from lm_eval._cli.utils import MergeDictAction

    about = "Choose theta for adaptive length prediction on a task's training documents"
    parser: argparse.ArgumentParser = subparsers.add_parser("calibrate", help=about, description=about)
    add = parser.add_argument
    add("--task", required=True, metavar="<task>", help="A task or group; `odb-dllm ls tasks` lists all")
    add("--model_args", "-a", nargs="+", action=MergeDictAction, default=None, metavar="<arg>",
        help="As for run: pretrained=..., setting=..., gen_length=...")  # fmt: skip
    add("--device", default=None, metavar="<device>", help="cpu, cuda or cuda:N")
    add("--limit", type=int, default=None, metavar="<N>", help="Documents of each task (default: all)")
    add("--num_fewshot", type=int, default=None, metavar="<N>", help="Examples per prompt (default: as the task says)")
    add("--split", default=None, metavar="<split>", help="Split of the task's data to use instead of its training one")
    add("--apply_chat_template", action="store_true", help="As for run")
    add("--include_path", default=None, metavar="<path>", help="Folder of further task YAMLs")
    add("--max_cut", type=float, default=MAX_CUT, metavar="<share>", help="Answers that may be cut (default: 0.005)")
    add("--check", action="store_true", help="Generate once more with the theta chosen, and count the answers cut")
    add("--out", type=Path, default=None, metavar="<file>", help="Write the YAML metadata there, not to stdout")
    add("--plot", type=Path, default=None, metavar="<file>", help="Write the plot there (default: beside --out)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Record every document once, replay the grid, print the trade-off and write the metadata.

    Returns 0, or 1 where no θ cuts few enough.
    """
    from odb_dllm.lm_eval_model import ODBDiffusionLM

    _check(args)
    adapter = ODBDiffusionLM.create_from_arg_obj({"device": args.device, **(args.model_args or {})})
    if "theta" in adapter.arguments.explicit:
        raise InputError("theta is what calibrate chooses: leave it out of --model_args.")
    reference(adapter.arguments.setting)  # refuses what cannot predict lengths
    found, splits = _documents(args, adapter)
    requests = _requests(adapter, found)
    requests, recordings = _record(adapter, requests)

    trials: list[Trial] = []
    for guard in _guards(requests[0], found[0]):
        trials.append(_try(guard, requests, recordings, args.max_cut))
        if trials[-1].choice.point:
            break
    trial, rule = trials[-1], requests[0].stop
    shown = _report(trials, recordings, args.max_cut)
    print("\n".join(shown))
    if trial.choice.theta is None:
        return 1
    if args.check:
        print(_real_run(adapter, requests, recordings, trial))
    about = f"{args.task} ({splits}), {adapter.arguments.pretrained}, {requests[0].setting.name}"
    _plot(args, about, trial)
    metadata = {
        "theta": trial.choice.theta,
        "stop": _stop_values(adapter, [*_texts(requests[0]), *until_of(dict(found[0].args[1]))], rule),
        "eos_guard": trial.eos_guard,
    }
    _write(args.out, f"odb-dllm calibrate: {about}", shown, metadata)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is loaded."""
    for name in ("limit", "num_fewshot"):
        value = getattr(args, name)
        if value is not None and value < (name == "limit"):
            raise InputError(f"--{name} must be at least {int(name == 'limit')}, not {value}.")
    include_folders(args.include_path)
    if not 0 < args.max_cut < 1:
        raise InputError(f"--max_cut is a share between 0 and 1, e.g. 0.005 for 0.5 %, not {args.max_cut}.")
    for path in (args.out, args.plot):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise InputError(f"{path} is no file that could be written: its folder must exist.")
    if args.plot and not plot.available():
        raise InputError("--plot needs matplotlib: pip install matplotlib.")


def _documents(args: argparse.Namespace, adapter: "ODBDiffusionLM") -> "tuple[list[Instance], str]":
    from odb_dllm import tasks

    include = include_folders(args.include_path)
    with tasks.local_data(args.data_dir) as local:
        manager = tasks.make_manager([args.task], local, include, {})
        tasks.check(manager, [args.task], local, unsafe_allowed=True)  # no answer is scored, so no code is run
        return instances(
            manager,
            args.task,
            split=args.split,
            limit=args.limit,
            num_fewshot=args.num_fewshot,
            chat=adapter.apply_chat_template if args.apply_chat_template else None,
        )


def _requests(adapter: "ODBDiffusionLM", found: "Sequence[Instance]") -> "list[Request]":
    """The requests as a run would make them, with the setting that recordings are made with."""
    from odb_dllm.benchmarks import resolve
    from odb_dllm.scheduler import Request
    from odb_dllm.tasks.metadata import TaskFacts, facts_of

    read = []
    for instance in found:
        facts, gen = facts_of(instance) or TaskFacts(), dict(instance.args[1])
        setting = reference(setting_of(adapter.arguments, gen, facts.metadata, end_of_turn=facts.chat))
        prompt = adapter.tok_encode(instance.args[0], add_special_tokens=False if facts.chat else None)
        if len(prompt) + setting.gen_length > adapter.max_length:
            raise InputError(
                f"Document {instance.doc_id} of {instance.task_name}: its prompt of {len(prompt)} tokens and "
                f"gen_length {setting.gen_length} exceed the model's maximum of {adapter.max_length}."
            )
        read.append((instance, prompt, setting, until_of(gen)))
    made = []
    for index, (instance, prompt, setting, until) in enumerate(read):
        family = adapter.arguments.family
        filled, stop = resolve(adapter.model, setting, task=instance.task_name, family=family, until=until)
        made.append(Request(prompt, filled, stop, index))
    return made


def _record(adapter: "ODBDiffusionLM", requests: "Sequence[Request]") -> "tuple[list[Request], list[Recording]]":
    """Record every document; those that the model has no numbers for are left out."""
    from odb_dllm.generation import NonFiniteLogits
    from odb_dllm.scheduler import check
    from odb_dllm.tensor_parallel.leader import engine_of

    check(adapter.model, requests)
    engine = engine_of(adapter.model)
    kept = []
    for request in tqdm(requests, desc="Recording"):
        try:
            kept.append((request, record(engine, request)))
        except NonFiniteLogits as error:
            print(f"Document {request.sequence} is left out: {error}", file=sys.stderr)
    if not kept:
        raise InputError("No document could be used: the model's logits are NaN or infinite for each of them.")
    return [request for request, _ in kept], [recording for _, recording in kept]


def _guards(request: "Request", instance: "Instance") -> list[bool]:
    """The EOS guard that is given or published; else none, and one where no θ will do without."""
    from odb_dllm.benchmarks import find

    given = request.setting.eos_guard is not None or find(instance.task_name) is not None
    return [request.stop.eos_guard] if given else [False, True]


def _try(guard: bool, requests: "Sequence[Request]", recordings: Sequence[Recording], limit: float) -> Trial:
    """Replay every document with every θ of the grid."""
    lengths = [recording.gen_length for recording in recordings]
    points = []
    for theta in GRID:
        rules = (replace(request.stop, theta=theta, eos_guard=guard) for request in requests)
        outcomes = [replay(recording, rule) for recording, rule in zip(recordings, rules, strict=True)]
        points.append(summarise(theta, outcomes, lengths))
    return Trial(guard, tuple(points), choose(points, limit))


def _report(trials: Sequence[Trial], recordings: Sequence[Recording], limit: float) -> list[str]:
    """The tables and what they mean, as lines."""
    answers = sorted(recording.answer for recording in recordings)
    endless = sum(not recording.ended for recording in recordings)
    middle, last = answers[len(answers) // 2], answers[-1]
    lines = [f"{len(answers)} answers on the full canvas: median {middle} tokens, longest {last}."]
    if endless:
        lines.append(f"{endless} of them never ended: any shortening counts as a cut. A larger gen_length may help.")
    for trial in trials:
        lines += ["", f"EOS guard {'on' if trial.eos_guard else 'off'}:"]
        lines += table(trial.points, trial.choice.theta).splitlines()
    return [*lines, "", verdict(trials[-1].choice, len(recordings), limit, eos_guard=trials[-1].eos_guard)]


def _real_run(
    adapter: "ODBDiffusionLM", requests: "Sequence[Request]", recordings: Sequence[Recording], trial: Trial
) -> str:
    """Generate with the θ chosen, on canvases that really shrink."""
    from odb_dllm.generation import Generation
    from odb_dllm.scheduler import run as generate

    assert trial.choice.point is not None
    theta = trial.choice.point.theta
    rules = [replace(request.stop, theta=theta, eos_guard=trial.eos_guard) for request in requests]
    made = [replace(request, stop=rule) for request, rule in zip(requests, rules, strict=True)]
    results = generate(adapter.model, made, batch_size=adapter.batch_size)
    cut, canvas = 0, 0.0
    for index, generation in tqdm(results, desc="Checking", total=len(made)):
        if not isinstance(generation, Generation):
            raise InputError(f"Document {index} could not be generated: {generation}")
        cut += really_cut(recordings[index], generation.tokens, rules[index])
        canvas += generation.average_predicted_length or 0.0
    return (
        f"A real run with theta {theta:g}: {cut} of {len(made)} answers cut, mean canvas {canvas / len(made):.1f} "
        f"(by the replay {trial.choice.point.cut} and {trial.choice.point.canvas:.1f})."
    )


def _texts(request: "Request") -> list[str]:
    """The stop patterns that were given as strings."""
    given = request.setting.stop
    return [text for text in given if isinstance(text, str)] if isinstance(given, tuple) else []


def _stop_values(adapter: "ODBDiffusionLM", texts: Sequence[str], rule: "StopRule") -> list[Any]:
    """The stop patterns for the YAML: strings where some of ``texts`` give just these, else token ids."""
    from odb_dllm.benchmarks import derive

    own = [pattern for pattern in rule.patterns if not (len(pattern) == 1 and pattern[0] in rule.eos)]
    if adapter.tokenizer is None:
        return [list(pattern) for pattern in own]
    said = {text: derive(adapter.tokenizer, (text,)) for text in dict.fromkeys(texts)}
    fitting = {text: patterns[0] for text, patterns in said.items() if patterns and patterns[0] in own}
    return list(fitting) if set(fitting.values()) == set(own) else [list(pattern) for pattern in own]


def _plot(args: argparse.Namespace, about: str, trial: Trial) -> None:
    """Draw the trade-off where that is wanted and possible; else say how to get it."""
    path = args.plot or (args.out.with_suffix(".png") if args.out else None)
    if not plot.available():
        print("No plot: it needs matplotlib (pip install matplotlib).", file=sys.stderr)
    elif path is None:
        print("No plot: --plot FILE or --out FILE says where to.", file=sys.stderr)
    else:
        plot.draw(path, about, trial.points, trial.choice.theta, args.max_cut)
        print(f"Plot: {path}")


def _write(out: Path | None, title: str, shown: Sequence[str], metadata: dict[str, Any]) -> None:
    """Write the metadata, below the evidence for it where it goes to a file."""
    # A value in JSON is one in YAML, and stays on its line.
    lines = (f"  {name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in metadata.items())
    text = "metadata:\n" + "".join(lines)
    if out is None:
        print("\n" + text, end="")
        return
    comments = "".join(f"# {line}".rstrip() + "\n" for line in (title, "", *shown))
    try:
        out.write_text(comments + text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"The metadata cannot be written to {out}: {error.strerror}.") from error
    print(f"Metadata: {out}")

"""The ``odb-dllm`` command: lm-eval's own verbs and flags, with our model, tasks, checks and speed table."""

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from odb_dllm import (
    bench,
    bundle,
    calibrate,
    certify,
    chat,
    demo,
    doctor,
    lm_eval_texts,
    protocols,
    report,
    run_arguments,
    settings_command,
    sweep,
)
from odb_dllm.data import add_verbs as add_data_verbs
from odb_dllm.data_parallel import has_last_word, hush, join, printed_once
from odb_dllm.errors import InputError
from odb_dllm.folders import make_writable
from odb_dllm.report import verb as report_verb
from odb_dllm.statistics import UNFINISHED
from odb_dllm.traces import beside

if TYPE_CHECKING:
    from lm_eval._cli import HarnessCLI
    from lm_eval.config.evaluate_config import EvaluatorConfig

    from odb_dllm.lm_eval_model import ODBDiffusionLM
    from odb_dllm.tasks import LocalData

MODEL = "odb_dllm"
INTERRUPTED = {  # verb: what became of its work
    "run": ": statistics and cached responses of what was finished are kept",
    "calibrate": ": no theta was chosen, and nothing is kept",
    "certify": ": what was compared until then is told",
    "bundle": ": what was gathered is removed again",
    "reproduce": ": the same command goes on from here",
    "sweep": ": the same command goes on from here",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0; 1 where samples failed or results could not be kept; 2 after one line on what was wrong; 130, 141 and 143 after
    SIGINT, a reader of the output that went away, and SIGTERM.
    """
    signal.signal(signal.SIGTERM, _terminate)
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words.insert(0, "run")  # as lm-eval does
    try:
        try:
            return _main(words)
        finally:
            if sys.stdout is not None:  # which it is where the shell closed it
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again when it ends
        return 128 + signal.SIGPIPE


def _main(words: list[str]) -> int:
    try:
        _join(words)
        if alone := {"doctor": doctor, "bench": bench, "certify": certify}.get("".join(words[:1])):
            return alone.main(words[1:])  # lm-eval, which the parser below is made from, may be what is missing
        harness = _parser()
        with printed_once():
            args = _parsed(harness, words)
        verb = {"run": run, "ls": _with_our_tasks, "validate": _with_our_tasks}.get(args.command)
        if args.command == "run" and len(words) == 1:
            with printed_once():
                harness._subparsers.choices["run"].print_help()
        elif verb is None:
            return args.func(args) or 0
        else:
            return verb(args) or 0
    except InputError as error:
        if has_last_word():
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        if has_last_word():
            print("interrupted" + INTERRUPTED.get("".join(words[:1]), ""), file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return 0


def _join(words: list[str]) -> None:
    """Meet the other processes of an evaluation that torchrun or accelerate started; the first speaks for all."""
    processes = join()
    if processes.size > 1 and words[:1] != ["run"]:
        raise InputError(f"{processes.size} processes were started, and only `odb-dllm run` shares its work out.")
    if processes.rank:
        hush()


class Terminated(KeyboardInterrupt):
    """SIGTERM, taken as an interrupt."""


def _terminate(*_: object) -> None:
    raise Terminated


def _parser() -> "HarnessCLI":
    """lm-eval's parser, with what we add to it."""
    try:
        from lm_eval._cli import HarnessCLI
        from lm_eval.utils import setup_logging
    except ImportError as error:
        raise InputError(f"The odb-dllm command needs lm-eval 0.4.12 or later ({error}).") from error
    setup_logging()
    harness = HarnessCLI()
    choices = harness._subparsers.choices
    calibrate.add_parser(harness._subparsers).set_defaults(func=_calibrate)
    report.add_verb(harness._subparsers).set_defaults(func=_reproduce)
    report_verb.add_verb(harness._subparsers).set_defaults(func=report_verb.report)
    sweep.add_verb(harness._subparsers).set_defaults(func=_sweep)
    chat.add_verb(harness._subparsers).set_defaults(func=chat.run)
    demo.add_verb(harness._subparsers)
    certify.add_verb(harness._subparsers).set_defaults(func=certify.run)
    for verb in ("run", "ls", "validate", "calibrate", "reproduce", "sweep"):
        choices[verb].add_argument(
            "--data_dir",
            default=os.environ.get("DATA_DIR") or None,
            metavar="<path>",
            help="Folder of local benchmark data, e.g. with gsm8k/{train,test}.jsonl (default: $DATA_DIR)",
        )
    settings_command.add_verb(harness._subparsers)
    listed = harness._subparsers.add_parser("protocols", help="List how the papers ran their tables")
    listed.set_defaults(func=lambda _: print(protocols.listing()))
    add_data_verbs(harness._subparsers)
    bundle.add_verbs(harness._subparsers)
    doctor.add_arguments(harness._subparsers.add_parser("doctor", help="Say whether a run can work here"))
    bench.add_arguments(harness._subparsers.add_parser("bench", help="Measure forwards against the machine's floor"))
    lm_eval_texts.rename(harness._parser, choices)
    return harness


def _parsed(harness: "HarnessCLI", words: list[str]) -> argparse.Namespace:
    try:
        return harness._parser.parse_args(words)
    except (ValueError, AssertionError) as error:  # from lm-eval's own parsing of values
        raise InputError(f"The arguments could not be read: {_sentence(error)}") from error


def run(args: argparse.Namespace) -> int:
    """Check all that can be checked without a model, evaluate, and print the speed below the accuracy.

    Returns 1 where a sample failed or something could not be written, else 0.
    """
    from odb_dllm.model_info import print_speed
    from odb_dllm.tasks import local_data

    config = _config(args)
    data_dir = args.__dict__.pop("data_dir")
    if config.model != MODEL:
        with local_data(data_dir) as local, _tasks(args, config, local):
            args.func(args)
        return 0
    if config.confirm_run_unsafe_code:
        os.environ.setdefault("HF_ALLOW_CODE_EVAL", "1")  # the same consent, as the metric asks for it
    checked = _check_model(args, config)
    with local_data(data_dir) as local, _tasks(args, config, local):
        checked.text_tokenizer()  # read before the weights, and refused where there is none
        _place_cache(args, config, checked)
        folder = _place_statistics(args, config)
        before = _results(folder)
        with _task_failures():
            args.func(args)
        kept = True
        if join().rank == 0:
            print_speed(type(checked).current, cached=bool(config.use_cache))
            kept = folder is None or _join_results(Path(args.model_args["statistics"]), _results(folder) - before)
    said = [] if kept else [f"The results could not be written to {folder}: they stand above alone."]
    return join().agree(_complain(said))


def _config(args: argparse.Namespace) -> "EvaluatorConfig":
    """lm-eval's merge of flags and --config file; the model is ours where neither names one."""
    from lm_eval.config.evaluate_config import EvaluatorConfig

    from odb_dllm.tasks import split

    try:
        file = EvaluatorConfig.load_yaml_config(args.config) if args.config else {}
        if args.model is None and "model" not in file:
            args.model = MODEL
        plain = argparse.Namespace(**{name: value for name, value in vars(args).items() if name != "data_dir"})
        quiet = logging.getLogger("lm_eval.config.evaluate_config")
        with contextlib.redirect_stdout(io.StringIO()), patch.object(quiet, "disabled", True):
            config = EvaluatorConfig.from_cli(plain)
        config.device = args.device or file.get("device")  # and not lm-eval's default of cuda:0
    except (ValueError, TypeError, OSError) as error:
        raise InputError(_sentence(error)) from error
    run_arguments.check(config)
    args.tasks = config.tasks = split(config.tasks or [])
    return config


def _check_model(args: argparse.Namespace, config: "EvaluatorConfig") -> "ODBDiffusionLM":
    """Make the adapter, which checks its arguments and loads nothing; pass its device on."""
    from odb_dllm.lm_eval_model import ODBDiffusionLM

    extra = {
        "batch_size": config.batch_size,
        "max_batch_size": config.max_batch_size,
    }
    adapter = ODBDiffusionLM.create_from_arg_obj({"device": config.device, **config.model_args}, extra)
    args.model_args = dict(config.model_args)
    args.device = config.device or adapter.device.type
    return adapter


@contextlib.contextmanager
def _tasks(args: argparse.Namespace, config: "EvaluatorConfig", local: "LocalData") -> Iterator[None]:
    """Check the task names, and have lm-eval use the index that this took instead of making its own."""
    from odb_dllm import tasks

    names = list(config.tasks)
    include = run_arguments.include_folders(config.include_path)
    manager = tasks.make_manager(names, local, include, config.metadata)
    tasks.check(manager, names, local, unsafe_allowed=config.confirm_run_unsafe_code)
    with (
        patch("lm_eval.tasks.TaskManager", lambda **_: manager),
        run_arguments.checked_tasks(manager, config.samples),
        lm_eval_texts.quiet_git(),
    ):
        yield


def _with_our_tasks(args: argparse.Namespace) -> None:
    """lm-eval's ``ls`` and ``validate``, our tasks included."""
    from odb_dllm import tasks

    include = run_arguments.include_folders(args.include_path)
    with tasks.local_data(args.data_dir) as local:
        if args.command == "ls" and args.what is None:
            args.func(args)
            return
        names = tasks.split(args.tasks) if args.command == "validate" else []
        manager = tasks.make_manager(names, local, include, {})
        if names:
            tasks.check(manager, names, local, unsafe_allowed=True)
            args.tasks = ",".join(names)
        with patch("lm_eval.tasks.TaskManager", lambda **_: manager):
            args.func(args)


def _calibrate(args: argparse.Namespace) -> int:
    with _task_failures():
        return calibrate.run(args)


def _reproduce(args: argparse.Namespace) -> int:
    with _task_failures():
        return report.run(args)


def _sweep(args: argparse.Namespace) -> int:
    with _task_failures():
        return sweep.run(args)


def _place_cache(args: argparse.Namespace, config: "EvaluatorConfig", adapter: "ODBDiffusionLM") -> None:
    """Give --use_cache's path a suffix that tells configurations apart."""
    if config.use_cache:
        args.use_cache = f"{config.use_cache}_{adapter.fingerprint()[:12]}"


def _place_statistics(args: argparse.Namespace, config: "EvaluatorConfig") -> Path | None:
    """Send per-sample statistics to where the results will be; return that folder if we chose it.

    Raises ``InputError`` where either could not be written.
    """
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lm_eval.utils import sanitize_model_name

    given = args.model_args.get("statistics")
    if given:
        make_writable(Path(given).parent)
    if not config.output_path:
        return None
    output = Path(config.output_path)
    name = GeneralConfigTracker._get_model_name(args.model_args) or MODEL
    folder = output.parent if output.suffix == ".json" else output / sanitize_model_name(name)
    make_writable(folder)
    if given:
        return None
    run = join().broadcast(f"{time.strftime('%Y-%m-%dT%H-%M-%S')}_{os.getpid()}")
    args.model_args["statistics"] = str(folder / f"{UNFINISHED}{run}.jsonl")
    return folder


def _results(folder: Path | None) -> set[Path]:
    return {p for p in folder.glob("*.json") if p.stat().st_size} if folder and folder.is_dir() else set()


def _join_results(rows: Path, new: set[Path]) -> bool:
    """Name the statistics after the results file that names them, since other runs may write to the same folder.

    Returns whether there is such a file.
    """
    run = rows.stem.removeprefix(UNFINISHED)
    ours = [path for path in new if run in path.read_text(encoding="utf-8")]
    if rows.is_file() and ours:
        named = rows.with_name(f"statistics_{ours[0].stem.removeprefix('results_')}.jsonl")
        if beside(rows).is_file():
            beside(rows).rename(beside(named))
        rows.rename(named)
    return bool(ours)


def _complain(said: list[str]) -> int:
    """Say what went wrong without ending the run; 1 where anything did."""
    from odb_dllm.lm_eval_model import ODBDiffusionLM

    if ODBDiffusionLM.current:
        said = said + ODBDiffusionLM.current.recorder.complaints()
    for sentence in said:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if said else 0


@contextlib.contextmanager
def _task_failures() -> Iterator[None]:
    """Turn failures to get at a task's data into one sentence."""
    try:
        yield
    except (InputError, BrokenPipeError):  # the latter is our own output's
        raise
    except (ConnectionError, FileNotFoundError) as error:  # hub and datasets errors derive from these
        raise InputError(
            f"A task's data could not be had: {_sentence(error)} For local data, set DATA_DIR or --data_dir."
        ) from error
    except ImportError as error:
        raise InputError(f"A task needs a package that is not installed: {_sentence(error)}") from error
    except ValueError as error:
        if "marked as unsafe" in str(error):  # a YAML given by its path
            raise InputError(f"{_sentence(error)} The flag is --confirm_run_unsafe_code.") from error
        raise


def _sentence(error: BaseException) -> str:
    """The first line of an error's text, as a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."

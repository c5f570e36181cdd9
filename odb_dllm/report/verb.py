"""``odb-dllm report``: the tables, ladder and figures of any number of results; or two results against each other."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odb_dllm.errors import InputError
from odb_dllm.folders import make_writable
from odb_dllm.report import against_command, lengths_command

if TYPE_CHECKING:
    from odb_dllm.report.figures import Drawn
    from odb_dllm.report.runs import Run

TITLE = "odb-dllm report"
OTHERS = {"compare": "--compare two folders", "against": "--against a setting", "lengths": "--lengths two settings"}
FIRST = 5  # changed samples that the terminal shows


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``report``; everything else is imported when it runs."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="Tables, ladder and figures of any number of results, or --compare two of them",
        description=(
            "Collect results of reproduce, sweep, and run --log_samples, also from other machines, into tables beside "
            "the published figures, a ladder and figures: report.md, report.html, CSV, PNG and PDF. With --compare, "
            "say what changed between two results, sample by sample; with --against, set every other setting beside "
            "one of them; with --lengths, set two rules of length prediction beside each other: Markdown, HTML, CSV."
        ),
    )
    add = parser.add_argument
    add("folders", nargs="*", metavar="DIR", help="Folders with results, at any depth")
    add("--compare", nargs=2, metavar=("A", "B"), help="Two cells' folders, or folders with the same cells")
    add(
        "--out",
        metavar="<folder>",
        help="Where it goes (default: results/report, results/compare, results/against or results/lengths)",
    )
    add("--bench", metavar="<file.json>", help="What bench --out wrote: its machine is the roofline's roof")
    against_command.add_flags(parser)
    lengths_command.add_flag(parser)
    return parser


def report(args: argparse.Namespace) -> int:
    """Run the verb; the exit code. Raises ``InputError`` before anything is written."""
    _check(args)
    if args.compare is not None:
        return _compare(args)
    if args.against is not None:
        return against_command.run(args, _found)
    if args.lengths is not None:
        return lengths_command.run(args, _found)
    folders, out = [Path(name) for name in args.folders], Path(args.out or "results/report")
    return write_report(folders, out, _machine(args.bench), partial(print, flush=True))


def _check(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for names that are empty, flags that do not go together, and folders that are not there."""
    for flag in ("folders", *OTHERS, "costs", "bench", "out"):
        given = getattr(args, flag)
        if any(not name.strip() for name in ([given] if isinstance(given, str) else given or ())):
            what = "The name of a folder" if flag == "folders" else f"--{flag}"
            raise InputError(f"{what} is empty: give a name, or set the variable that was to hold it.")
    asked = [flag for flag in OTHERS if getattr(args, flag) is not None]
    if len(asked) > 1:
        raise InputError(f"Give {' or '.join(OTHERS[flag] for flag in asked)}, not together.")
    if args.bench is not None and asked:
        raise InputError(f"--bench goes with the report's figures, and --{asked[0]} draws no roofline.")
    against_command.check(args)
    if args.folders and args.compare is not None:
        raise InputError("Give folders to report on or two to --compare, not both.")
    if not args.folders and args.compare is None:
        raise InputError("Name the folders to report on, or two to --compare, such as: odb-dllm report results.")
    for name in args.compare or args.folders:
        if not Path(name).is_dir():
            raise InputError(f"There is no folder {name}.")


def write_report(
    folders: Sequence[Path],
    out: Path,
    machine: Mapping[str, Any] | None = None,
    show: Callable[[str], None] | None = None,
) -> int:
    """Write the report on all results at or below the folders; the exit code.

    Args:
        machine: that of ``bench --out``, whose limits are the roofline's roof.
        show: gets the report as Markdown before it is written.

    Raises:
        InputError: there are no results, or some that one table cannot hold, or ``out`` cannot be written to.
    """
    from odb_dllm.report import writing
    from odb_dllm.report.assemble import assemble

    made = assemble(_found(folders))
    make_writable(out)
    if show is not None:
        show(writing.to_markdown(TITLE, made.sections))
    return writing.write(out, "report", TITLE, made.sections, made.files, _figures(made.runs, out, machine))


def _found(folders: Sequence[Path]) -> "list[Run]":
    """The runs at or below the folders; what is left out is said. Raises ``InputError`` where there is none."""
    from odb_dllm.report.gather import collect

    runs, left_out = collect(folders)
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    if not runs:
        raise InputError(f"No finished results at or below {', '.join(map(str, folders))}.")
    return runs


def _figures(runs: Sequence["Run"], out: Path, machine: Mapping[str, Any] | None) -> "list[Drawn]":
    """The figures, or a sentence on why there are none."""
    from odb_dllm.report import figures

    if not figures.available():
        print("No figures are drawn, which takes matplotlib: pip install matplotlib.", file=sys.stderr)
        return []
    return figures.draw(runs, out / "figures", machine)


def _machine(path: str | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))["machine"]
    except OSError as error:
        raise InputError(f"--bench {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        found = None
    if not found or not isinstance(found, dict):
        raise InputError(f"--bench {path} is not what odb-dllm bench --out writes: it has no machine.")
    return found


def _compare(args: argparse.Namespace) -> int:
    from odb_dllm.report import compare_page, writing
    from odb_dllm.report.compare import compare, pairs

    a, b = map(Path, args.compare)
    runs = (_found([a]), _found([b]))
    paired, remarks = pairs(a, b, runs)
    made = [compare(*pair) for pair in paired]
    out = Path(args.out or "results/compare")
    make_writable(out)
    title = f"A: {a}, B: {b}"
    print(writing.to_markdown(title, compare_page.sections(made, remarks, FIRST)), flush=True)
    files = {"compare.csv": compare_page.figures_csv(made), "changed.csv": compare_page.changes_csv(made)}
    return writing.write(out, "compare", title, compare_page.sections(made, remarks), files, [])

"""The flags of ``odb-dllm report --against``, and what they do."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from odb_dllm.costs import read_forward_costs
from odb_dllm.errors import InputError
from odb_dllm.folders import make_writable

if TYPE_CHECKING:
    from odb_dllm.report.runs import Run

TITLE = "odb-dllm report --against"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--against", metavar="SETTING", help="Every other setting beside this one, on the same documents")
    add("--costs", metavar="<file.json>", help="With --against, what bench --out wrote: what forwards would take")
    add("--prompt", type=int, metavar="N", help="With --costs, behind a prompt of N tokens (default: as recorded)")
    add("--canvas", type=int, metavar="N", help="With --costs, on a canvas of N tokens (default: as recorded)")


def check(args: argparse.Namespace) -> None:
    """Raise ``InputError`` for flags that go with others."""
    if args.costs is not None and args.against is None:
        raise InputError("--costs goes with --against and a setting: times are estimated beside another's.")
    for flag in ("prompt", "canvas"):
        value = getattr(args, flag)
        if value is not None and args.costs is None:
            raise InputError(f"--{flag} goes with --costs and a file of bench --out, whose times it is for.")
        if value is not None and value < 1:
            raise InputError(f"--{flag} must be a whole number of at least 1, not {value}.")


def run(args: argparse.Namespace, find: "Callable[[Sequence[Path]], list[Run]]") -> int:
    """Print the tables and write them; the exit code. ``find`` collects the runs below folders."""
    from odb_dllm.report import against_page, writing
    from odb_dllm.report.against import against
    from odb_dllm.report.against_costs import Lengths

    out = Path(args.out or "results/against")
    costs = None if args.costs is None else read_forward_costs(args.costs)
    lengths = Lengths(args.prompt, args.canvas)
    made = against(find([Path(name) for name in args.folders]), args.against, costs, lengths)
    make_writable(out)
    sections = against_page.sections(made, args.costs, lengths)
    print(writing.to_markdown(TITLE, sections), flush=True)
    return writing.write(out, "against", TITLE, sections, {"against.csv": against_page.to_csv(made)}, [])

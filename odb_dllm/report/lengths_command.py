"""The flag of ``odb-dllm report --lengths``, and what it does."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from odb_dllm.folders import make_writable

if TYPE_CHECKING:
    from odb_dllm.report.figures import Drawn
    from odb_dllm.report.lengths import Comparison
    from odb_dllm.report.runs import Run


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lengths",
        nargs=2,
        metavar=("SETTING_A", "SETTING_B"),
        help="Two rules of length prediction: lengths, cut answers and what was right, on the same documents",
    )


def run(args: argparse.Namespace, find: "Callable[[Sequence[Path]], list[Run]]") -> int:
    """Print the table; write it, the cut answers, the samples and the figure; the exit code.

    ``find`` collects the runs below folders.
    """
    from odb_dllm.report import lengths_page, writing
    from odb_dllm.report.lengths import compare

    out = Path(args.out or "results/lengths")
    a, b = map(str.strip, args.lengths)
    made, remarks, runs = compare(find([Path(name) for name in args.folders]), a, b)
    make_writable(out)
    title = f"Length prediction: {a} and {b}"
    sections = lengths_page.sections(made, runs, remarks)
    print(writing.to_markdown(title, sections[:1]), flush=True)
    files = {"lengths.csv": lengths_page.figures_csv(made), "samples.csv": lengths_page.samples_csv(made, runs)}
    return writing.write(out, "lengths", title, sections, files, _figure(made, out))


def _figure(made: "Sequence[Comparison]", out: Path) -> "list[Drawn]":
    """The figure, or a sentence on why there is none."""
    from odb_dllm.report import figures
    from odb_dllm.report.figures import rules

    if not figures.available():
        print("No figure is drawn, which takes matplotlib: pip install matplotlib.", file=sys.stderr)
        return []
    return [figures.render(rules.plot(made), out / "figures")]

"""Prints results files of lm-eval side by side: accuracy and speed. Usage: compare.py results_*.json"""

import json
import sys
from pathlib import Path
from typing import Any

from odb_dllm.statistics import markdown

HEADS = ("setting", "problems", "accuracy", "tokens/s", "NFE", "seconds", "speed-up")


def accuracy(results: dict[str, Any]) -> float:
    """The task's exact match: the strict one, where there are several filters."""
    scores = {name: value for task in results["results"].values() for name, value in task.items()}
    strict = [value for name, value in scores.items() if name.startswith("exact_match,strict")]
    return float((strict or [value for name, value in scores.items() if name.startswith("exact_match,")])[0])


def main(paths: list[str]) -> None:
    runs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    runs.sort(key=lambda run: run["config"]["odb_dllm"]["totals"]["wall_seconds"])
    slowest = runs[-1]["config"]["odb_dllm"]["totals"]["wall_seconds"]
    lines = [list(HEADS)]
    for run in runs:
        about = run["config"]["odb_dllm"]
        totals = about["totals"]
        lines.append(
            [
                about["setting"]["name"],
                str(totals["samples"]),
                f"{accuracy(run):.1%}",
                f"{totals['tokens_per_second']:.1f}",
                f"{totals['nfe_per_sample']:.1f}",
                f"{totals['wall_seconds']:.1f}",
                f"{slowest / totals['wall_seconds']:.2f}x",
            ]
        )
    print(markdown(lines))


if __name__ == "__main__":
    main(sys.argv[1:])

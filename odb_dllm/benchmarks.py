"""What the papers fix per benchmark: stop patterns, length-prediction thresholds, Streaming-dLLM's windows.

A task that is not in the table has its stop patterns derived from its ``until`` strings; nothing else depends on
the task. Token ids are those of LLaDA's tokenizer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from odb_dllm.errors import InputError, nearest
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from odb_dllm.models.loading import DiffusionModel

FAMILIES = ("llada_instruct", "llada_1_5", "dream")
DEFAULT_THETA, DEFAULT_WINDOW = 0.9, (96, 0.3)
LLADA_EOS, LLADA_VOCABULARY = 126081, 126464
# Special tokens of other models, which tasks name among their until strings.
FOREIGN = (
    "</s>",
    "<s>",
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "<end_of_turn>",
)


@dataclass(frozen=True)
class Benchmark:
    """One row of the published tables."""

    names: tuple[str, ...]  # lm-eval's task names, * matching any subtask
    until: tuple[str, ...]
    patterns: tuple[tuple[int, ...], ...]  # besides EOS, in LLaDA's tokenizer
    theta: dict[str, float]
    eos_guard: bool
    windows: dict[tuple[str, int], tuple[int, float]]  # (family, gen_length): Streaming-dLLM's window, alpha


def _theta(instruct: float, v15: float) -> dict[str, float]:
    """Theta by family; nothing is published for Dream, which takes LLaDA-Instruct's."""
    return {"llada_instruct": instruct, "llada_1_5": v15, "dream": instruct}


def _windows(
    *rows: tuple[str, tuple[int, float], tuple[int, float]],
) -> dict[tuple[str, int], tuple[int, float]]:
    return {(family, length): pair for family, *pairs in rows for length, pair in zip((256, 512), pairs, strict=True)}


BENCHMARKS = {
    "gsm8k": Benchmark(
        names=("gsm8k",),
        until=("Question:",),
        patterns=((17188,),),
        theta=_theta(0.93, 0.90),
        eos_guard=True,
        windows=_windows(
            ("llada_instruct", (96, 0.3), (96, 0.3)),
            ("llada_1_5", (96, 0.4), (128, 0.6)),
            ("dream", (32, 0.3), (32, 0.3)),
        ),
    ),
    "minerva_math": Benchmark(
        names=("minerva_math", "minerva_math_*"),
        until=("Problem:",),
        patterns=((38649,),),
        theta=_theta(0.80, 0.85),
        eos_guard=False,
        windows=_windows(
            ("llada_instruct", (128, 0.3), (256, 0.2)),
            ("llada_1_5", (96, 0.4), (192, 0.3)),
            ("dream", (32, 0.1), (32, 0.3)),
        ),
    ),
    "bbh": Benchmark(
        names=("bbh", "bbh_cot_fewshot", "bbh_cot_fewshot_*"),
        until=("Q", "\n\n"),
        patterns=((48,), (198, 198)),
        theta=_theta(0.80, 0.80),
        eos_guard=False,
        windows={},
    ),
    "humaneval": Benchmark(
        names=("humaneval",),
        until=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
        patterns=tuple((198, second) for second in (2439, 1413, 2, 7442, 371, 3384)),
        theta=_theta(0.85, 0.85),
        eos_guard=False,
        windows=_windows(
            ("llada_instruct", (192, 0.3), (256, 0.4)),
            ("llada_1_5", (96, 0.3), (96, 0.4)),
            ("dream", (192, 0.7), (128, 0.4)),
        ),
    ),
    "mbpp": Benchmark(
        names=("mbpp",),
        until=("[DONE]",),
        patterns=((103193,),),
        theta=_theta(0.90, 0.90),
        eos_guard=True,
        windows=_windows(
            ("llada_instruct", (32, 0.3), (32, 0.3)),
            ("llada_1_5", (96, 0.3), (96, 0.3)),
            ("dream", (192, 0.3), (192, 0.6)),
        ),
    ),
}


def find(task: str | None) -> Benchmark | None:
    """The row of a task or of one of its subtasks; None where the papers have none."""
    rows = BENCHMARKS.values()
    return next((row for row in rows if task and any(fnmatchcase(str(task).lower(), name) for name in row.names)), None)


def check_task(task: str | None) -> None:
    """Raise ``InputError`` for a task whose stop patterns are not known by its name alone."""
    if task is not None and find(task) is None:
        raise InputError(
            f"Unknown task {task!r}: {nearest(str(task), list(BENCHMARKS))}; for another one leave task out and "
            "give stop, theta and eos_guard."
        )


def family_of(model: "str | DiffusionModel") -> str:
    """The family of a model: the one that its network declares, else what its name tells.

    The name alone, of a model that is not loaded, tells Dream by how its last part begins. A name that tells
    nothing is LLaDA-Instruct's.
    """
    if isinstance(model, str):
        name, declared = model, "dream" if Path(model).name.lower().startswith("dream") else None
    else:
        name, declared = model.name, getattr(getattr(model, "network", None), "family", None)
    if declared is not None:
        return str(declared)
    return "llada_1_5" if "1.5" in name or "1_5" in name else "llada_instruct"


def resolve(
    model: "DiffusionModel",
    setting: Setting,
    *,
    task: str | None = None,
    family: str | None = None,
    until: Iterable[str] = (),
) -> tuple[Setting, StopRule]:
    """Fill what a setting leaves to the task, and make the rule by which an answer ends.

    Args:
        model: whose tokenizer and special ids are used.
        setting: its own ``stop``, ``theta``, ``eos_guard``, ``window_size`` and ``confidence_alpha`` win.
        task: an lm-eval task name, or None.
        family: one of ``FAMILIES``; None tells it from the model.
        until: the strings at which the task cuts an answer.

    Raises:
        InputError: unknown family; stop strings without a tokenizer; stop ids outside the vocabulary.
    """
    family = family_of(model) if family is None else family
    if family not in FAMILIES:
        raise InputError(f"Unknown family {family!r}: {nearest(str(family), list(FAMILIES))}.")
    row = find(task)
    turn = (model.ids.end_of_turn,) if setting.end_of_turn and model.ids.end_of_turn is not None else ()
    eos = (model.ids.eos, *turn)
    own = _patterns(model, setting, row, tuple(until))
    by_task = row.theta[family] if row and setting.length != "mass" else DEFAULT_THETA
    rule = StopRule(
        patterns=tuple(dict.fromkeys([*((token,) for token in eos), *own])),
        eos=eos,
        theta=setting.theta if setting.theta is not None else by_task,
        eos_guard=setting.eos_guard if setting.eos_guard is not None else bool(row and row.eos_guard),
    )
    window, alpha = row.windows.get((family, setting.gen_length), DEFAULT_WINDOW) if row else DEFAULT_WINDOW
    if setting.suffix == "window" and setting.window_size is None:
        setting = replace(setting, window_size=window)
    if setting.rule == "dynamic" and setting.confidence_alpha is None:
        setting = replace(setting, confidence_alpha=alpha)
    return setting, rule


def _patterns(
    model: "DiffusionModel", setting: Setting, row: Benchmark | None, until: tuple[str, ...]
) -> list[tuple[int, ...]]:
    """Stop patterns besides EOS."""
    if setting.stop == "eos":
        return []
    if setting.stop is not None:
        return [pattern for given in setting.stop for pattern in _given(model, given)]
    if row and speaks_llada(model):
        return list(row.patterns)
    if model.tokenizer is None:
        return []
    return derive(model.tokenizer, until or (row.until if row else ()))


def _given(model: "DiffusionModel", given: int | str | tuple[int, ...]) -> list[tuple[int, ...]]:
    if isinstance(given, str):
        if model.tokenizer is None:
            raise InputError(f"stop={given!r} needs a tokenizer, which {model.name} has not; give token ids.")
        return derive(model.tokenizer, (given,))
    pattern = (given,) if isinstance(given, int) else tuple(given)
    if not all(0 <= token < model.vocab_size for token in pattern):
        raise InputError(f"stop={list(pattern)} holds ids outside the vocabulary of {model.vocab_size}.")
    return [pattern]


def speaks_llada(model: "DiffusionModel") -> bool:
    """Whether the published token ids mean what they mean in LLaDA's tokenizer."""
    if model.ids.eos != LLADA_EOS:
        return False
    if model.tokenizer is None:
        return model.vocab_size == LLADA_VOCABULARY
    firsts = [model.tokenizer.encode(text, add_special_tokens=False)[:1] for text in ("Question:", "Problem:")]
    return firsts == [[17188], [38649]]


def derive(tokenizer: "PreTrainedTokenizerBase", until: Iterable[str]) -> list[tuple[int, ...]]:
    """The first two tokens of each string as it is written after other text ("a"), or its only one."""
    before = tokenizer.encode("a", add_special_tokens=False)
    found = []
    for text in until:
        if not text or (text in FOREIGN and text not in tokenizer.all_special_tokens):
            continue
        ids = tokenizer.encode("a" + text, add_special_tokens=False)
        same = next(
            (i for i, (x, y) in enumerate(zip(ids, before, strict=False)) if x != y), min(len(ids), len(before))
        )
        if ids[same:]:
            found.append(tuple(ids[same : same + 2]))
    return found

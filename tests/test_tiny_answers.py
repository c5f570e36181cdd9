"""The embedded model's answers on its five tasks: under every setting, with speculation, at any length, in batches."""

from functools import cache

import pytest

from odb_dllm import DiffusionModel, load_model
from odb_dllm.benchmarks import resolve
from odb_dllm.generation import Generation
from odb_dllm.presets import PRESETS, get_setting
from odb_dllm.scheduler import Request, run
from odb_dllm.stopping import first_match
from odb_dllm.tiny import problems
from odb_dllm.tiny.problems import Problem
from odb_dllm.tiny.training.measure import are_right

BLOCK = 16
PLAIN, LOSSLESS, SPECULATIVE = "alp", "jump-share-exact", ("accept-jump", "jump-share")
UNTIL = {
    "gsm8k_mini": ("Question:",),
    "minerva_math_mini": ("Problem:",),
    "bbh_mini": ("Q", "\n\n"),
    "humaneval_mini": ("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
    "mbpp_mini": ("[DONE]",),
}
# Shipped problems with short answers that the model gets right in any dtype.
KNOWN = {
    "gsm8k_mini": (32, 44, 51),
    "minerva_math_mini": (50, 41, 44),
    "bbh_mini_boolean_expressions": (39, 24, 48),
    "bbh_mini_object_counting": (3, 24),
    "bbh_mini_date_understanding": (55, 23),
    "bbh_mini_tracking_shuffled_objects": (3, 31),
    "humaneval_mini": (44, 13, 9),
    "mbpp_mini": (19, 52, 7),
}
ALL = [(task, number) for task, numbers in KNOWN.items() for number in numbers]
Made = dict[str, list[Generation]]


@cache
def problem(task: str, number: int) -> Problem:
    return problems.heldout(task, 60)[number]


def request(model: DiffusionModel, setting: str, task: str, number: int) -> Request:
    """A known problem on a canvas of at least a block more than its own answer needs."""
    assert model.tokenizer is not None
    asked = problem(task, number)
    needed = len(model.tokenizer.encode(asked.answer)) + 1
    lengths = {"gen_length": (needed // BLOCK + 2) * BLOCK, "block_length": BLOCK}
    until = next(strings for name, strings in UNTIL.items() if task.startswith(name))
    return Request(model.tokenizer.encode(asked.prompt), *resolve(model, get_setting(setting, **lengths), until=until))


def answers(model: DiffusionModel, requests: list[Request], batch_size: int = 1) -> list[Generation]:
    found = dict(run(model, requests, batch_size=batch_size))
    assert all(isinstance(each, Generation) for each in found.values())
    return [found[i] for i in range(len(requests))]  # type: ignore[misc]


def text(model: DiffusionModel, made: Generation) -> str:
    assert model.tokenizer is not None
    return model.tokenizer.decode(made.tokens[: end(model, made)])


def end(model: DiffusionModel, made: Generation) -> int:
    """Where an answer ends: its first end-of-text token."""
    return made.tokens.index(model.ids.eos)


def wrong(model: DiffusionModel, asked: list[tuple[str, int]], made: list[Generation]) -> list[tuple[str, int]]:
    """The problems that were not answered rightly."""
    right = are_right([problem(*each) for each in asked], [text(model, each) for each in made])
    return [each for each, is_right in zip(asked, right, strict=True) if not is_right]


@pytest.fixture(scope="module")
def precise() -> DiffusionModel:
    """The embedded model in float64, in which no rounding decides a token."""
    return load_model("tiny", device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def made(precise: DiffusionModel) -> Made:
    """All known problems, one by one, without speculation and with each kind of it."""
    names = (PLAIN, LOSSLESS, *SPECULATIVE)
    return {name: answers(precise, [request(precise, name, *each) for each in ALL]) for name in names}


@pytest.mark.parametrize("setting", PRESETS)
def test_every_setting_answers_known_problems(setting: str, tiny: DiffusionModel) -> None:
    asked = [(task, numbers[0]) for task, numbers in KNOWN.items()]
    assert wrong(tiny, asked, answers(tiny, [request(tiny, setting, *each) for each in asked])) == []


@pytest.mark.parametrize("setting", [LOSSLESS, *SPECULATIVE])
def test_speculation_takes_fewer_forwards_on_every_task(setting: str, made: Made) -> None:
    for task in KNOWN:
        spent = {name: sum(made[name][i].nfe for i, (of, _) in enumerate(ALL) if of == task) for name in made}
        assert spent[setting] < spent[PLAIN], task


def test_lossless_speculation_changes_no_token(made: Made) -> None:
    for asked, plain, exact in zip(ALL, made[PLAIN], made[LOSSLESS], strict=True):
        assert (exact.tokens, exact.predicted_lengths) == (plain.tokens, plain.predicted_lengths), asked
        assert (exact.refreshes, exact.decode_length) == (plain.refreshes, plain.decode_length), asked
        assert exact.nfe <= plain.nfe, asked


@pytest.mark.parametrize("setting", SPECULATIVE)
def test_speculation_changes_words_now_and_then_and_no_known_answer(
    setting: str, made: Made, precise: DiffusionModel
) -> None:
    """Drafts taken early change some words of some answers."""
    assert wrong(precise, ALL, made[PLAIN]) == wrong(precise, ALL, made[setting]) == []
    changed = [
        asked
        for asked, ours, plain in zip(ALL, made[setting], made[PLAIN], strict=True)
        if text(precise, ours) != text(precise, plain)
    ]
    assert len(changed) < len(ALL) / 4, changed


@pytest.mark.parametrize("setting", [PLAIN, *SPECULATIVE])
def test_the_canvas_ends_with_the_block_in_which_the_answer_ends(
    setting: str, made: Made, precise: DiffusionModel
) -> None:
    """It ends with the first stop pattern that lies in one block whole."""
    for asked, each in zip(ALL, made[setting], strict=True):
        of = request(precise, setting, *asked)
        starts = range(0, len(each.tokens), BLOCK)
        found = [first_match(each.tokens[start : start + BLOCK], of.stop.patterns) for start in starts]
        blocks = 1 + next(i for i, offset in enumerate(found) if offset is not None)
        assert len(each.tokens) == each.predicted_lengths[-1] == blocks * BLOCK, asked
        assert each.refreshes == blocks, asked
        assert each.decode_length == (blocks - 1) * BLOCK + found[blocks - 1] + 1, asked
        assert set(each.tokens[end(precise, each) :]) == {precise.ids.eos}, asked
        assert len(each.tokens) < of.setting.gen_length, asked


def test_a_batch_of_all_settings_gives_what_each_gives_alone(made: Made, precise: DiffusionModel) -> None:
    names = [list(made)[i % len(made)] for i in range(len(ALL))]
    requests = [request(precise, name, *each) for name, each in zip(names, ALL, strict=True)]
    together = answers(precise, requests, batch_size=6)
    for i, name in enumerate(names):
        alone = made[name][i]
        assert (together[i].tokens, together[i].passes) == (alone.tokens, alone.passes), (name, ALL[i])
    assert max(size for each in together for size in each.batches) > 1

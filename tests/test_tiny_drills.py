"""What the embedded checkpoint is drilled in before it sees problems, and the heads that its training begins with."""

import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from tokenizers import Tokenizer

from odb_dllm.models.layers import rotary_table, rotate
from odb_dllm.models.llada import LLaDA, LLaDAConfig
from odb_dllm.tiny.problems.bbh_counting import KINDS
from odb_dllm.tiny.training import train
from odb_dllm.tiny.training.batches import BUCKETS, SHORT, Encoder, _drills, _look_ups, _weights
from odb_dllm.tiny.training.drills import FACTS, LOOK_UPS, drill
from odb_dllm.tiny.training.drills_equations import LARGEST, equation, equations
from odb_dllm.tiny.training.drills_factors import factors
from odb_dllm.tiny.training.drills_kinds import kinds
from odb_dllm.tiny.training.drills_options import options
from odb_dllm.tiny.training.drills_recall import questions, swaps
from odb_dllm.tiny.training.drills_repeats import repeats
from odb_dllm.tiny.training.initial import NEIGHBOURS, initialise
from odb_dllm.tiny.training.marks import marked, unmarked

MODEL = Path(train.__file__).parents[1] / "model"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(Tokenizer.from_file(str(MODEL / "tokenizer.json")))


@pytest.mark.parametrize("seed", range(3))
def test_equations_of_drills_hold(seed):
    rng = random.Random(seed)
    for _ in range(500):
        operator, a, b, c = equation(rng)
        assert min(a, b, c) >= 0
        assert max(a, b, c) <= LARGEST
        if operator in ("prime", "common"):
            assert a % c == b % c == 0
            assert not any(a % d == b % d == 0 for d in range(2, c or 2))
            assert c > 1 or (operator == "common" and math.gcd(a, b) == 1)
        else:
            apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "//": int.__floordiv__, "lcm": math.lcm}
            assert c == apply[operator](a, b) if operator != "/" else c * b == a


def test_drills_of_factors_are_right():
    shown = re.findall(
        r"\$(\d+)\$: \|(\d)\| primes, by \$\|(\d+)\|\$ to \$\|(\d+)\|\$\. ", factors(random.Random(0), 8000)
    )
    assert len({n for n, *_ in shown}) > 60
    for n, count, first, left in (map(int, each) for each in shown):
        found = sympy.factorint(n)
        assert (count, first) == (sum(found.values()), min(found))
        assert first * left == n


def test_equations_of_drills_are_marked():
    marks = equations(random.Random(0), 8000)
    text, spans = unmarked(marks)
    shown = re.findall(r"(-?\d+)x? ?(\+|-|\*|/|\\cdot|\\times) ?(\d+)x? ?= ?(?:<<.*?=)?(-?\d+)", text)
    assert len(shown) > 150
    for a, sign, b, c in shown:
        a, b, c = int(a), int(b), int(c)
        assert {"+": a + b, "-": a - b, "/": a / b if b else None}.get(sign, a * b) == c
    assert {text[slice(*span)].isdigit() for span in spans} == {True}
    whole, tens, units = (len(re.findall(each, marks)) for each in (r"\|\d\d\|", r"\|\d\|\d", r"\d\|\d\|"))
    assert whole > max(tens, units) >= min(tens, units) > 20
    for shown, said in re.findall(r"=(\|?\d\|?\d?\|?)>>(\S+)", marks):
        assert shown == said  # what one copy shows, the other does not give away


@pytest.mark.parametrize("seed", range(30))
def test_drills_of_recall_follow_from_what_is_told(seed):
    """Swaps are played again from the text alone."""
    for drilled in (questions, swaps):
        for text in drilled(random.Random(seed), 1500).splitlines():
            told, *said = text.split(". ")
            start = r"([A-Z]\w+) (?:(?:has|gets|is|dances with) (?:a |the )?)?(\w+)"
            has = dict(re.findall(start, told.removeprefix("At the start, ")))
            assert 2 <= len(has) == len(set(has.values())) <= 5
            for sentence in said:
                before, after = dict(has), re.findall(r"([A-Z]\w+) \|?(\w+)\|?\b", sentence.removeprefix("Then, "))
                if sentence.startswith("Then, "):
                    (a, x), (b, y) = after[:2]
                    assert (before[a], before[b]) == (x, y)
                    has[a], has[b] = y, x
                    assert dict(after[2:4]) == {a: y, b: x}
                    assert dict(after[4:]) == has
                else:
                    assert len(after) > 3
                    assert all(has[name] == held for name, held in after)


@pytest.mark.parametrize("characters", [30, 100, 800])
def test_drills_of_options_are_right(characters):
    for seed in range(30):
        text = options(random.Random(seed), characters)
        letters = {thing: letter for letter, thing in re.findall(r"^\((.)\) (\w+)", text, re.MULTILINE)}
        asked = re.findall(r" \(\|(.)\|\) (\w+)\.", text)
        assert len(asked) >= max(1, characters // 50)
        assert all(letters[thing] == letter for letter, thing in asked)


def test_drills_of_kinds_are_right():
    for seed in range(30):
        beginning, *things = kinds(random.Random(seed), 800).removesuffix(";").split("; ")
        wanted = re.fullmatch("Just (.*) count, from the start", beginning)[1]
        assert len(things) > 10
        for thing in things:
            noun, kind, counts = re.fullmatch(r"\w+ (\w+): \|(\w+)\|, \|(so|none)\|", thing).groups()
            full = next(each for each in [wanted, *KINDS] if each.endswith(kind))
            assert (counts == "so") == (full == wanted)
            one = [entry.split(":") for entry in KINDS.get(full, " ".join(KINDS.values())).split()]
            assert noun in {n for entry in one for n in (entry[0], entry[-1], f"{entry[0]}s")}


def test_drills_of_repeats_repeat():
    for seed in range(30):
        first, *more = repeats(random.Random(seed), 400).rstrip(".").split(".")
        assert len(more) > 3
        *whole, last = [line.replace("|", "") for line in more]
        assert set(whole) == {first}
        assert first.startswith(last)
        assert any("|" in line for line in more)


def test_look_ups_are_of_every_length(encoder):
    lengths = [len(row.ids) for row in _look_ups(encoder, random.Random(0), SHORT[1], 200)]
    assert min(lengths) < 20
    assert max(lengths) > 0.9 * SHORT[1].length
    assert len(set(lengths)) > 40


@pytest.mark.parametrize("write", [options, questions, factors])
def test_the_embedded_checkpoint_has_learnt(write, encoder, tiny):
    """Letters of options, who has what, prime factors: what is marked follows from the rest."""
    told = right = 0
    for seed in range(40):
        text, spans = unmarked(write(random.Random(seed), 300))
        row = encoder.tokenizer.encode(text, add_special_tokens=False)
        inside = {place for span in spans for place in range(*span)}
        where = [i for i, (_, end) in enumerate(row.offsets) if end - 1 in inside]
        ids = torch.tensor([row.ids])
        hidden = ids.clone()
        hidden[0, where] = encoder.mask
        with torch.no_grad():
            states = tiny.network(hidden, torch.arange(ids.shape[1]))
            guessed = tiny.network.logits(states[0, where]).argmax(-1)
        told += len(where)
        right += int((guessed == ids[0, where]).sum())
    assert told > 300
    assert right / told > 0.95, right / told


def test_a_run_begins_with_heads_that_see_neighbours(encoder):
    config = train.published_config(train.Options(Path()), encoder)
    model = LLaDA(LLaDAConfig.from_dict(config))
    initialise(model, config["init_std"], 0)
    block, head = model.parts["blocks"][0], model.config.head
    x = block.attn_norm(model.parts["wte"](torch.arange(100, 140)))
    rotary = rotary_table(torch.arange(40), head, model.config.rope_theta)
    q, k = (rotate(part(x).unflatten(-1, (-1, head)).transpose(0, 1), *rotary) for part in (block.q_proj, block.k_proj))
    seen = (q @ k.mT / head**0.5).softmax(-1)
    for i, back in enumerate(NEIGHBOURS):
        here = torch.arange(2, 38)
        assert (seen[i, here].argmax(-1) == here - back).float().mean() > 0.9
        assert seen[i, here, here - back].mean() > 0.8
    assert (seen[len(NEIGHBOURS) :] < 0.2).all()


def test_drills_know_their_results(encoder):
    """What is masked is exactly what is marked, in every subject and whether or not a word begins with its space."""
    assert unmarked(f"a {marked('bc')} d{marked(1)}") == ("a bc d1", [(2, 4), (6, 7)])
    shown = set()
    for bucket in (*SHORT, BUCKETS[0]):
        rows = [row for seed in range(60) for row in _drills(encoder, random.Random(seed), bucket, 1, 0.5)]
        assert sum(bool(row.results) for row in rows) > 50
        for seed, row in enumerate(rows):
            rng = random.Random(seed)
            text, spans = drill(rng, bucket.length, LOOK_UPS if rng.random() < 0.5 else FACTS)
            masked = [encoder.tokenizer.decode([row.ids[i]]).strip() for i in row.results]
            assert "".join(text[slice(*span)] for span in spans).startswith("".join(masked))
            shown.update(masked)
        hidden, weights = _weights(rows, np.zeros((60, bucket.length), bool), np.random.default_rng(0))
        for row, mask, weight in zip(rows, hidden, weights, strict=True):
            assert np.flatnonzero(weight).tolist() == row.results
            behind = range(bucket.length if row.end is None else row.end, bucket.length)
            assert np.flatnonzero(mask).tolist() == [*row.results, *behind]
        assert {row.end is None for row in rows} == {True, False}
    assert {"1", "none", "A"} <= shown
    for subjects in (LOOK_UPS, FACTS):
        assert sum(subject.share for subject in subjects) == pytest.approx(1)

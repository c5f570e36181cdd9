"""Training batches: fresh problems of all benchmarks, LLaDA's masking, no padding.

A row is a prompt followed by its answer, and end-of-text tokens up to the row's length: the response canvas simply
takes what the prompt leaves of the row, so that the rows of a batch are equally long, attention needs no mask, and
canvases of all lengths occur. Some rows are masked as LLaDA's are, at a rate t ~ U(0, 1) everywhere in the response;
the others as a response looks while it is decoded: complete up to a block, masked at a rate within it, all masks behind
it, digits often at a rate of their own. In some rows everything is masked from a point of the answer on, often the
result of an equation, and what stands right there is trained on; others are drills, masked at their results. How many,
`lessons.py` says.

Batch number i of a run depends on the seed, i and the run's length alone, whichever worker makes it.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from odb_dllm.tiny.problems import MINIATURES, Problem, problems
from odb_dllm.tiny.problems.bbh_tracking import OBJECTS
from odb_dllm.tiny.training.drills import FACTS, LOOK_UPS, drill
from odb_dllm.tiny.training.lessons import Lessons, lessons
from odb_dllm.tiny.training.tokenizer import BOS, END_HEADER, END_OF_TURN, EOS, MASK, START_HEADER

LOWEST_RATE = 0.01  # of masking: below it, 1/t is nothing but noise
TYPICAL_LENGTH = 64  # the loss is a sum over a row's tokens, in units of this many, or of all where there are fewer
BLOCK = 32  # positions that are decoded together
DECODING_SHARE = 0.6  # of the rows are masked as while decoding
DIGITS_SHARE = 0.7  # of these mask digits at a rate of their own: words are mostly decoded first
BEHIND_WEIGHT = 0.2  # of positions behind the block: how the answer goes on cannot be known, but how long it is
RESULT = re.compile(  # what has to be found out in an answer, one group of each alternative:
    r"= ?(?:\\boxed\{|\\frac\{)*(-?[0-9]+|True|False)"  # what an equation gives,
    r"|-([0-9]+)(?=\\)"  # how often a number goes into another,
    r"|(?:times |cdot |\}\{)([0-9]+)(?=[$}])"  # a cofactor, a denominator,
    r"|(?:by|out|factor) \$([0-9]+)"  # a factor that is taken out,
    r"|, ([0-9]+)(?=[,$])"  # a member of a list,
    rf"|[A-Z][a-z]+ ({'|'.join(OBJECTS)})\b"  # what somebody has,
    r"|\(([A-Za-z]+)\)"  # an option,
    r"|: ([a-z]+)(?=,)"  # the kind of a thing,
    r"|, (so|none)(?=[;.]| [0-9])"  # whether it counts
)
RESULT_SHARE = 0.6  # of the points from which answers are masked are results
POINT_TOKENS = 4  # trained on at any other point; at a result, those of the result
POINT_WEIGHT = 8.0
CUT_SHARE = 0.3  # of drills end in masks behind some result, as answers do while they are decoded
CHAT_SHARE = 0.03
COPIES = 2  # rows of each problem, masked differently: drawing one takes longer than training on it
BETWEEN = "\n\n"  # worked examples


@dataclass(frozen=True)
class Bucket:
    """Rows of one length, how many of all rows they are, and how often their prompts begin with 0, 1 and 2 examples."""

    length: int
    share: float
    shots: tuple[float, ...]
    least: int  # tokens of a row; shorter ones are kept only now and then, for canvases that stay mostly empty


# About as many rows of each length as problems come, so that the tasks' own shares hold over all of them.
BUCKETS = (
    Bucket(160, 0.38, (1.0, 0.0, 0.0), 0),
    Bucket(288, 0.40, (0.7, 0.3, 0.0), 140),
    Bucket(576, 0.20, (0.1, 0.7, 0.2), 260),
    Bucket(1120, 0.02, (0.4, 0.3, 0.3), 0),
)
SHORT = (Bucket(40, 0.65, (), 0), Bucket(80, 0.35, (), 0))  # of look-ups alone
SHORTEST = 12  # tokens of a look-up
SHORT_SHARE = 0.3  # of the rows shorter than that are kept


class Encoder:
    """Problems to token ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.eos, self.mask, self.turn_end = self(EOS)[0], self(MASK)[0], self(END_OF_TURN)[0]
        self.digits = self("0123456789")

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pair(self, problem: Problem, examples: list[Problem]) -> tuple[list[int], list[int]]:
        """Prompt, after worked examples as lm-eval joins them, and answer."""
        before = "".join(p.prompt + p.answer + BETWEEN for p in examples)
        return self(before + problem.prompt), self(problem.answer)

    def chat(self, problem: Problem, bare: bool) -> tuple[list[int], list[int]]:
        """A single user turn (the question, bare or as in a plain prompt) and the assistant's answer."""
        content = problem.document.get("question", problem.prompt) if bare else problem.prompt
        head = f"{BOS}{START_HEADER}user{END_HEADER}\n\n{content.strip()}{END_OF_TURN}"
        return self(f"{head}{START_HEADER}assistant{END_HEADER}\n\n"), [*self(problem.answer.strip()), self.turn_end]


@dataclass
class Row:
    """Token ids, and where the response and its end-of-text fill begin."""

    ids: list[int]
    response: int = 0
    fill: int = 0
    results: list[int] | None = None  # of a drill, if these alone are masked
    end: int | None = None  # of a drill, from where on all is masked
    point: tuple[int, int] | None = None  # if all from the first on is masked, and trained on before the second


@dataclass
class Batch:
    """Rows with masks in place, and the masked positions that are trained on, flat and padded by weight 0."""

    tokens: Tensor  # int32 [rows, length]
    where: Tensor  # int64 [capacity], into tokens.flatten()
    target: Tensor  # int64 [capacity]
    weight: Tensor  # float32 [capacity]

    def pin_memory(self) -> "Batch":
        return Batch(*(getattr(self, field.name).pin_memory() for field in fields(self)))

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def copy_(self, other: "Batch") -> None:
        for field in fields(self):
            getattr(self, field.name).copy_(getattr(other, field.name), non_blocking=True)


class Batches(Dataset):
    """Batch i of `count`, each of about `tokens` tokens."""

    def __init__(self, tokenizer: Path, seed: int, count: int, tokens: int, first: int = 0) -> None:
        self.path, self.seed, self.count, self.tokens, self.first = tokenizer, seed, count, tokens, first
        self.encoder: Encoder | None = None  # made in the worker

    def __len__(self) -> int:
        return self.count - self.first

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        self.encoder = self.encoder or Encoder(Tokenizer.from_file(str(self.path)))
        step = self.first + index
        rng = random.Random(f"{self.seed} {step}")
        # A step holds the same number of tokens whatever its bucket, so rows' shares become steps' by their length.
        now = lessons(step / self.count)
        short = rng.random() < now.short
        buckets = SHORT if short else BUCKETS
        bucket = rng.choices(buckets, [b.share * b.length for b in buckets])[0]
        count = max(1, self.tokens // bucket.length)
        if short:
            rows = _look_ups(self.encoder, rng, bucket, count)
        else:
            drills = round(count * now.drills)
            rows = _drills(self.encoder, rng, bucket, drills, now.look_ups)
            rows += _rows(self.encoder, rng, bucket, count - drills, now)
        return self._batch(rows, bucket.length, np.random.default_rng([self.seed, step]))

    def _batch(self, rows: list[Row], length: int, rng: np.random.Generator) -> Batch:
        encoder = self.encoder
        assert encoder is not None
        clean = np.full((len(rows), length), encoder.eos, np.int64)
        for line, row in zip(clean, rows, strict=True):
            line[: len(row.ids)] = row.ids
        masked, weight = _weights(rows, np.isin(clean, encoder.digits), rng)
        where = np.flatnonzero(weight)
        capacity = self.tokens * 3 // 4  # more than this are hardly ever masked
        where = where[:capacity] if len(where) > capacity else where
        pad = (0, capacity - len(where))
        padded = np.concatenate([where, np.arange(pad[1])])  # weightless, so anywhere; but spread for the GPU's atomics
        weight = weight.ravel()[where] / (len(rows) * min(length, TYPICAL_LENGTH))
        return Batch(
            torch.from_numpy(np.where(masked, encoder.mask, clean).astype(np.int32)),
            torch.from_numpy(padded),
            torch.from_numpy(np.pad(clean.ravel()[where], pad)),
            torch.from_numpy(np.pad(weight, pad).astype(np.float32)),
        )


def _weights(rows: list[Row], digits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What is masked, bool [rows, length], and what each position counts in the loss, float64 [rows, length].

    digits: where the rows hold digits, bool [rows, length].
    """
    length = digits.shape[1]
    offset = np.arange(length) - np.array([row.response for row in rows])[:, None]  # in the response
    # Rates are spread evenly over (0, 1).
    rate = (rng.permutation(len(rows)) + rng.random(len(rows)))[:, None] / len(rows)
    rate = LOWEST_RATE + (1 - LOWEST_RATE) * rate
    drawn = rng.random((len(rows), length))
    everywhere = (drawn < rate) * (offset >= 0) / rate

    blocks = np.array([1 + (row.fill - row.response) // BLOCK for row in rows])
    block = (offset - BLOCK * np.floor(blocks * rng.random(len(rows)))[:, None]) / BLOCK
    own = (rng.random((len(rows), 1)) < DIGITS_SHARE) & digits
    chosen = drawn < np.where(own, rng.random((len(rows), 1)), rate)
    inside, behind = (block >= 0) & (block < 1) & chosen, block >= 1
    count = np.maximum(inside.sum(1, keepdims=True), 1)
    decoding = inside * (TYPICAL_LENGTH / count) + behind * BEHIND_WEIGHT

    weights = np.where(rng.random((len(rows), 1)) < DECODING_SHARE, decoding, everywhere)
    for line, row in zip(weights, rows, strict=True):
        if row.results is not None:
            line[:] = 0.0
            line[row.results] = 1.0
        elif row.point is not None:
            line[:] = 0.0
            line[slice(*row.point)] = POINT_WEIGHT
    masked = weights > 0
    for mask, row in zip(masked, rows, strict=True):
        if row.point is not None:
            mask[row.point[0] :] = True
        elif row.end is not None:
            mask[row.end :] = True
    return masked, weights


def _drills(encoder: Encoder, rng: random.Random, bucket: Bucket, count: int, look_ups: float) -> list[Row]:
    """Rows of drills, this share of them look-ups."""
    subjects = [LOOK_UPS if rng.random() < look_ups else FACTS for _ in range(count)]
    return [_drill(encoder, rng, bucket.length, *drill(rng, bucket.length, of)) for of in subjects]


def _look_ups(encoder: Encoder, rng: random.Random, bucket: Bucket, count: int) -> list[Row]:
    """Rows of look-ups of any length that fits: the short ones are learnt first, and the long ones from them."""
    lengths = [rng.randint(SHORTEST, bucket.length) for _ in range(count)]
    return [_drill(encoder, rng, bucket.length, *drill(rng, length, LOOK_UPS)) for length in lengths]


def _drill(encoder: Encoder, rng: random.Random, length: int, text: str, spans: list[tuple[int, int]]) -> Row:
    """A row with the results of a drill masked, and sometimes with all behind one of them masked."""
    encoding = encoder.tokenizer.encode(text, add_special_tokens=False)
    inside = {place for span in spans for place in range(*span)}
    # A word's token begins with the space before it.
    results = [i for i, (_, end) in enumerate(encoding.offsets[:length]) if end - 1 in inside]
    if not results or rng.random() >= CUT_SHARE:
        return Row(encoding.ids[:length], results=results)
    end = rng.choice(results) + 1
    return Row(encoding.ids[:length], results=[i for i in results if i < end], end=end)


def _rows(encoder: Encoder, rng: random.Random, bucket: Bucket, count: int, now: Lessons) -> list[Row]:
    """Prompts and answers that belong in the bucket."""
    sources = {task: problems(task, f"{rng.random()}", "train", now.variety) for task in MINIATURES}
    recent: dict[str, list[Problem]] = {task: [next(sources[task]) for _ in range(2)] for task in MINIATURES}
    rows: list[Row] = []
    for task in _endless(rng):
        if len(rows) >= count:
            break
        problem, earlier = next(sources[task]), recent[task]
        points = 0.0  # a chat's answer stands elsewhere in its row
        if rng.random() < CHAT_SHARE:
            ask, answer = encoder.chat(problem, rng.random() < 0.5)
        else:
            ask, answer = encoder.pair(problem, rng.sample(earlier, rng.choices((0, 1, 2), bucket.shots)[0]))
            recent[task] = [*earlier[-7:], problem]
            points = now.points
        full = len(ask) + len(answer)
        if not full < bucket.length or (full < bucket.least and rng.random() > SHORT_SHARE):
            continue
        for _ in range(COPIES):
            point = None
            if rng.random() < points:
                first, last = _point(encoder, rng, problem.answer)
                point = len(ask) + first, len(ask) + last
            rows.append(Row(ask + answer, len(ask), full, point=point))
    return rows[:count]


def _point(encoder: Encoder, rng: random.Random, answer: str) -> tuple[int, int]:
    """Tokens of an answer, the first and the one behind the last: a result, or a few anywhere."""
    offsets = encoder.tokenizer.encode(answer, add_special_tokens=False).offsets
    results = [found.span(found.lastindex or 0) for found in RESULT.finditer(answer)]
    if not results or rng.random() > RESULT_SHARE:
        first = rng.randrange(len(offsets))
        return first, min(first + POINT_TOKENS, len(offsets))
    start, stop = rng.choice(results)
    inside = [i for i, (begin, end) in enumerate(offsets) if end > start and begin < stop]
    return inside[0], inside[-1] + 1


def _endless(rng: random.Random) -> Iterator[str]:
    """Tasks, by their shares."""
    while True:
        yield from rng.choices(list(MINIATURES), [each.share for each in MINIATURES.values()], k=256)


def loader(batches: Batches, workers: int) -> DataLoader:
    """The batches in order, made ahead by worker processes; on a machine with a GPU in memory that it copies from."""
    # Handing over file descriptors would wait for the worker's interpreter, which is busy with its next batch.
    torch.multiprocessing.set_sharing_strategy("file_system")
    ahead = 6 if workers else None
    pinned = torch.cuda.is_available()
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=ahead, pin_memory=pinned)

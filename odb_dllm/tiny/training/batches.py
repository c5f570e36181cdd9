"""Training batches: fresh problems, LLaDA's masking, no padding.

A row is a prompt followed by its answer, and end-of-text tokens up to the row's length: the response canvas simply
takes what the prompt leaves of the row, so that the rows of a batch are equally long, attention needs no mask, and
canvases of all lengths occur. Batch number i depends on the seed and i alone, whichever worker makes it.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from odb_dllm.tiny.problems import Problem, Problems, prompt
from odb_dllm.tiny.tokenizer import BOS, END_HEADER, END_OF_TURN, EOS, MASK, START_HEADER

LOWEST_RATE = 0.01  # of masking: below it, 1/t is nothing but noise
TYPICAL_LENGTH = 64  # the loss is a sum over a row's tokens, in units of this many
CHAT_SHARE = 0.04


@dataclass(frozen=True)
class Bucket:
    """Rows of one length, how often they occur, and the probabilities of 0, 1 and 2 shots in their prompts."""

    length: int
    share: float
    shots: tuple[float, float, float]


BUCKETS = (
    Bucket(112, 0.30, (1.0, 0.0, 0.0)),
    Bucket(144, 0.42, (1.0, 0.0, 0.0)),
    Bucket(224, 0.13, (0.4, 0.6, 0.0)),
    Bucket(320, 0.12, (0.4, 0.2, 0.4)),
    Bucket(480, 0.024, (0.1, 0.4, 0.5)),
    Bucket(1120, 0.006, (0.5, 0.25, 0.25)),
)


class Encoder:
    """Problems to token ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.eos, self.mask, self.turn_end = self(EOS)[0], self(MASK)[0], self(END_OF_TURN)[0]
        self.between = [*self("\n"), *self("\n")]  # as they are encoded before a word

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pair(self, problem: Problem) -> tuple[list[int], list[int]]:
        """Prompt and answer of a problem."""
        return self(prompt(problem.question)), self(" " + problem.answer)

    def prompt(self, question: str, examples: list[Problem]) -> list[int]:
        """A prompt after some worked examples, as lm-eval joins them."""
        before = [prompt(p.question) + " " + p.answer + "\n\n" for p in examples]
        return self("".join(before) + prompt(question))

    def chat(self, problem: Problem, bare: bool) -> tuple[list[int], list[int]]:
        """A single user turn (the question, bare or as in a plain prompt) and the assistant's answer."""
        content = problem.question if bare else prompt(problem.question)
        head = f"{BOS}{START_HEADER}user{END_HEADER}\n\n{content}{END_OF_TURN}"
        return self(f"{head}{START_HEADER}assistant{END_HEADER}\n\n"), [*self(problem.answer), self.turn_end]


@dataclass
class Batch:
    """Rows with masks in place, and the masked positions that are trained on, flat and padded by weight 0."""

    tokens: Tensor  # int32 [rows, length]
    where: Tensor  # int64 [capacity], into tokens.flatten()
    target: Tensor  # int64 [capacity]
    weight: Tensor  # float32 [capacity], 1/t over the rows

    def to(self, device: torch.device) -> "Batch":
        moved = (getattr(self, f).to(device, non_blocking=True) for f in ("tokens", "where", "target", "weight"))
        return Batch(*moved)

    def pin_memory(self) -> "Batch":
        return Batch(*(getattr(self, f).pin_memory() for f in ("tokens", "where", "target", "weight")))


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
        bucket = rng.choices(BUCKETS, [b.share * b.length for b in BUCKETS])[0]
        rows = self._rows(rng, bucket, max(1, self.tokens // bucket.length))
        return self._mask(rows, bucket.length, np.random.default_rng([self.seed, step]))

    def _rows(self, rng: random.Random, bucket: Bucket, count: int) -> list[tuple[list[int], list[int]]]:
        """`count` pairs of prompt and answer that fit the bucket."""
        encoder, problems = self.encoder, Problems(f"{self.seed} {rng.random()}", "train")
        assert encoder is not None
        pool = [encoder.pair(next(problems)) for _ in range(2)]  # worked examples come from the rows before
        rows: list[tuple[list[int], list[int]]] = []
        while len(rows) < count:
            problem = next(problems)
            if rng.random() < CHAT_SHARE:
                ask, answer = encoder.chat(problem, rng.random() < 0.5)
            else:
                ask, answer = encoder.pair(problem)
                shots = rng.sample(pool, rng.choices((0, 1, 2), bucket.shots)[0])
                pool = [*pool[-15:], (ask, answer)]
                ask = [i for q, a in shots for part in (q, a, encoder.between) for i in part] + ask
            if len(ask) + len(answer) < bucket.length:
                rows.append((ask, answer))
        return rows

    def _mask(self, rows: list[tuple[list[int], list[int]]], length: int, rng: np.random.Generator) -> Batch:
        """Mask every response at its own rate t; the rates are spread evenly over (0, 1)."""
        encoder = self.encoder
        assert encoder is not None
        clean = np.full((len(rows), length), encoder.eos, np.int64)
        response = np.ones((len(rows), length), bool)
        for i, (ask, answer) in enumerate(rows):
            clean[i, : len(ask) + len(answer)] = ask + answer
            response[i, : len(ask)] = False
        rate = (rng.permutation(len(rows)) + rng.random(len(rows)))[:, None] / len(rows)
        rate = LOWEST_RATE + (1 - LOWEST_RATE) * rate
        masked = response & (rng.random(clean.shape) < rate)
        where = np.flatnonzero(masked)
        capacity = self.tokens // 2  # about half of all responses is masked, so this hardly ever cuts
        where = where[:capacity] if len(where) > capacity else where
        pad = (0, capacity - len(where))
        padded = np.concatenate([where, np.arange(pad[1])])  # weightless, so anywhere; but spread for the GPU's atomics
        weight = np.broadcast_to(1 / rate, clean.shape).ravel()[where] / (len(rows) * TYPICAL_LENGTH)
        return Batch(
            torch.from_numpy(np.where(masked, encoder.mask, clean).astype(np.int32)),
            torch.from_numpy(padded),
            torch.from_numpy(np.pad(clean.ravel()[where], pad)),
            torch.from_numpy(np.pad(weight, pad).astype(np.float32)),
        )


def loader(batches: Batches, workers: int, pin: bool) -> DataLoader:
    """The batches in order, made ahead by worker processes."""
    ahead = 6 if workers else None
    return DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pin, prefetch_factor=ahead)

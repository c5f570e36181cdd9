"""A small batched decoder, to measure accuracy while training: blocks from left to right, whole-canvas forwards."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from odb_dllm.models.llada import LLaDA
from odb_dllm.tiny.batches import Encoder
from odb_dllm.tiny.problems import Problem


@dataclass(frozen=True)
class Score:
    """What a decoder did on a set of problems."""

    accuracy: float
    forwards: float  # mean forwards per problem, up to the block in which its answer ends
    length_exact: float  # share of answers as long as the reference's


def _block_predictions(model: LLaDA, canvas: Tensor, real: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
    """Tokens and confidences at columns [start, end): each [rows, end - start]."""
    positions = (real.cumsum(-1) - 1).clamp(min=0)
    hidden = model(canvas, positions, mask=real[:, None, None, :])
    confidence, token = model.logits(hidden[:, start:end]).float().softmax(-1).max(-1)
    return token, confidence


def _unmask(model: LLaDA, canvas: Tensor, real: Tensor, start: int, end: int, mask: int, threshold: float) -> int:
    """One forward over some rows; unmask the most confident token of their block, and all at or above the threshold."""
    token, confidence = _block_predictions(model, canvas, real, start, end)
    block = canvas[:, start:end]
    confidence = confidence.masked_fill(block != mask, -1.0)
    take = confidence >= threshold
    take[torch.arange(len(block), device=block.device), confidence.argmax(-1)] = True
    canvas[:, start:end] = torch.where(take & (block == mask), token, block)
    return len(block)


@torch.inference_mode()
def decode(
    model: LLaDA,
    encoder: Encoder,
    prompts: list[list[int]],
    length: int,
    block: int = 32,
    threshold: float = 2.0,
) -> tuple[list[list[int]], float]:
    """Answers, cut at end of text, and the mean forwards; a threshold over 1 means one token per forward."""
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    canvas = torch.full((len(prompts), width + length), encoder.mask, device=device)
    real = torch.ones_like(canvas, dtype=torch.bool)
    for i, ids in enumerate(prompts):  # left-padded
        canvas[i, width - len(ids) : width] = torch.tensor(ids, device=device)
        real[i, : width - len(ids)] = False
    going, forwards = torch.arange(len(prompts), device=device), 0
    for start in range(width, width + length, block):
        end = start + block
        busy = going
        while len(busy):
            part = canvas[busy]
            forwards += _unmask(model, part, real[busy], start, end, encoder.mask, threshold)
            canvas[busy] = part
            busy = busy[part[:, start:end].eq(encoder.mask).any(-1)]
        going = going[~canvas[going, start:end].eq(encoder.eos).any(-1)]
    answers = [ids[: ids.index(encoder.eos)] if encoder.eos in ids else ids for ids in canvas[:, width:].tolist()]
    return answers, forwards / len(prompts)


def number(answer: str) -> str | None:
    """The answer after ``####``."""
    found = re.search(r"#### (-?[0-9.,]+)", answer)
    return found[1] if found else None


def measure(
    model: LLaDA,
    encoder: Encoder,
    problems: list[Problem],
    examples: list[Problem],
    length: int = 256,
    threshold: float = 2.0,
    rows: int = 512,
) -> Score:
    """Decode problems after the worked examples and score them by their last number."""
    right, exact, forwards = 0, 0, 0.0
    for start in range(0, len(problems), rows):
        part = problems[start : start + rows]
        prompts = [encoder.prompt(p.question, examples) for p in part]
        answers, mean = decode(model, encoder, prompts, length, threshold=threshold)
        forwards += mean * len(part)
        for problem, ids in zip(part, answers, strict=True):
            text = encoder.tokenizer.decode(ids, skip_special_tokens=False).split("Question:")[0]
            right += number(text) == number(problem.answer)
            exact += len(ids) == len(encoder(" " + problem.answer))
    return Score(right / len(problems), forwards / len(problems), exact / len(problems))

"""The model card of the embedded checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odb_dllm.tiny.decode import Score

CARD = """\
---
language: en
pipeline_tag: text-generation
tags: [masked-diffusion, llada]
---

# A tiny LLaDA for arithmetic word problems

A masked-diffusion language model with LLaDA's architecture, tensor names and configuration keys, small enough to ship
inside a Python package: {parameters:.2f} M parameters in bfloat16, width {d_model}, {n_layers} layers, {n_heads} heads,
SwiGLU {mlp_hidden_size}, vocabulary {vocab_size}, sequences up to {max_sequence_length} tokens. It exists to exercise
decoding methods on a model that really has learnt a task: its confidences, answer lengths and mistakes are a trained
model's. It knows nothing but its one task.

## Task

Word problems in GSM8K's format with one to three operations on numbers below 100. The prompt is
`Question: ...\\nAnswer:`, after up to two worked examples joined by an empty line; the answer is a step per line and
a last line `#### n`, then end-of-text tokens to the end of the canvas. A single user turn in LLaDA's chat template
works too.

## Training

{steps:,} steps of {step_tokens:,} tokens ({tokens:.2f} billion, every problem fresh from the generator) in
{minutes:.1f} minutes on one {device}: response tokens masked at a rate t ~ U(0, 1), cross-entropy at the masked
tokens weighted by 1/t, end-of-text after the answer trained like any token; AdamW, bfloat16 autocast, a moving average
of the weights. Test problems are held out by the hash of story and numbers. `python -m odb_dllm.tiny.train` does it
again.

## Figures

Measured by the training script on these weights: held-out problems, blocks of 32, whole-canvas forwards without a
cache. "shipped" are the problems of the `gsm8k_mini` task, "further" come from the same generator. Forwards count up to
the block in which the answer ends; "length" is the share of answers exactly as long as the reference.

{figures}

## Tokenizer

Byte-level BPE, trained on English and Python text and a little of the generator's; any text can be encoded; digits are
single tokens; LLaDA's special tokens and chat template.

## Limits

Other kinds of text, larger numbers and longer chains of steps are out of its reach. Use it to test software.
"""


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    problems: str
    count: int
    shots: int
    canvas: int
    decoder: str
    dtype: str
    score: Score


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| problems | shots | canvas | dtype | decoder | right | forwards | length |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        s = f.score
        right = f"{100 * s.accuracy:.1f} % | {s.forwards:.1f} | {100 * s.length_exact:.1f} %"
        lines.append(f"| {f.count} {f.problems} | {f.shots} | {f.canvas} | {f.dtype} | {f.decoder} | {right} |")
    return "\n".join(lines)


def write_card(path: Path, config: dict[str, Any], facts: dict[str, Any], figures: list[Figure]) -> None:
    """Write the card; an empty list of figures says that none were measured yet."""
    text = CARD.format(
        **{key: config[key] for key in ("d_model", "n_layers", "n_heads", "mlp_hidden_size", "vocab_size")},
        max_sequence_length=config["max_sequence_length"],
        parameters=facts["parameters"] / 1e6,
        steps=facts["steps"],
        step_tokens=facts["tokens"] // max(1, facts["steps"]),
        tokens=facts["tokens"] / 1e9,
        minutes=facts["minutes"],
        device=facts["device"],
        figures=table(figures) if figures else "None measured yet.",
    )
    path.write_text(text, encoding="utf-8")

"""The model card of the embedded checkpoint."""

from pathlib import Path
from typing import Any

from odb_dllm.tiny.training.measure import Score

CARD = """\
---
language: en
pipeline_tag: text-generation
tags: [masked-diffusion, llada]
---

# A tiny LLaDA for five miniature benchmarks

A masked-diffusion language model with LLaDA's architecture, tensor names and configuration keys, small enough to ship
inside a Python package: {parameters:.2f} M parameters in bfloat16, width {d_model}, {n_layers} layers, {n_heads} heads,
SwiGLU {mlp_hidden_size}, vocabulary {vocab_size}, sequences up to {max_sequence_length} tokens. It exists to exercise
decoding methods on a model that really has learnt its tasks: its confidences, answer lengths and mistakes are a trained
model's. It knows nothing else.

## Tasks

Generated problems in the formats of five benchmarks, with small numbers: word problems with several steps (GSM8K),
small algebra, number theory and fractions (MATH, as minerva_math asks it), boolean expressions, object counting, dates
and shuffled objects (BIG-Bench Hard), Python functions from a signature and docstring (HumanEval) and from a sentence
and three asserts (MBPP). Prompts may begin with up to two worked examples; after the answer come end-of-text tokens to
the end of the canvas. A single user turn in LLaDA's chat template works too.

## Training

{steps:,} steps of {step_tokens:,} tokens ({tokens:.2f} billion; every problem fresh from its generator, in two rows) in
{minutes:.1f} minutes on one {device}: in some rows response tokens masked at a rate t ~ U(0, 1), with the
cross-entropy at the masked tokens weighted by 1/t, in others as they are while a response is decoded; end-of-text after
the answer trained like any token; Muon for the matrices of the blocks, AdamW for the rest, bfloat16 autocast, a moving
average of the weights. It begins with short drills (looking up names, letters and copies; sums and factors), some of
which go on to the end. Test problems are held out by the hash of what they ask; the drills do ask for single facts that
test problems need too.

`python -m odb_dllm.tiny.training.train` does it again.

## Figures

Measured by the training script on these weights in bfloat16: held-out problems, drawn with another seed than those
that ship, without worked examples, 256 tokens in blocks of 32. The shipped test problems are measured in the project's
README.

{figures}

## Tokenizer

Byte-level BPE, trained on the generators' text and on English and Python text; any text can be encoded; digits are
single tokens; LLaDA's special tokens and chat template.

## Limits

Other kinds of text, larger numbers and other functions are out of its reach. Use it to test software.
"""


def table(scores: list[Score]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| task | setting | problems | right | NFE | tokens per forward |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for s in scores:
        right = f"{s.accuracy:.1%} | {s.nfe:.1f} | {s.tokens_per_forward:.2f}"
        lines.append(f"| {s.task} | {s.setting} | {s.problems} | {right} |")
    return "\n".join(lines)


def write_card(path: Path, config: dict[str, Any], facts: dict[str, Any], scores: list[Score]) -> None:
    """Write the card; an empty list of scores says that none were measured yet."""
    text = CARD.format(
        **{key: config[key] for key in ("d_model", "n_layers", "n_heads", "mlp_hidden_size", "vocab_size")},
        max_sequence_length=config["max_sequence_length"],
        parameters=facts["parameters"] / 1e6,
        steps=facts["steps"],
        step_tokens=facts["tokens"] // max(1, facts["steps"]),
        tokens=facts["tokens"] / 1e9,
        minutes=facts["minutes"],
        device=facts["device"],
        figures=table(scores) if scores else "None measured yet.",
    )
    path.write_text(text, encoding="utf-8")

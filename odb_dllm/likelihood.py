"""Log-likelihood of a continuation by Monte Carlo, as LLaDA evaluates it (arXiv 2502.09992, section 2 and appendix B).

Of the continuation's L tokens, k are masked at random; the cross-entropy at those, weighted by L / k and averaged over
draws, bounds the negative log-likelihood. k is spread evenly over 1..L within each batch of draws.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from odb_dllm.contract import Forward, Ints
from odb_dllm.engine import Engine
from odb_dllm.generation import NonFiniteLogits
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.sampler import sample
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule
from odb_dllm.tensor_parallel.leader import engine_of

BATCH = 16  # draws over which k is spread evenly


def log_likelihood(
    model: DiffusionModel,
    context: Sequence[int],
    continuation: Sequence[int],
    *,
    mc_num: int = 128,
    seed: int = 0,
    check_greedy: bool = True,
) -> tuple[float, bool]:
    """Estimate log p(continuation | context).

    Args:
        context: token ids [P].
        continuation: token ids [L], at least one.
        mc_num: draws, at least 1.
        seed: keys the masks, together with nothing else: the same call gives the same number.
        check_greedy: decode L tokens after the context, one a forward, and compare.

    Returns:
        The estimate in nats, and whether greedy decoding gives the continuation (False where it was not checked).

    Raises:
        NonFiniteLogits: logits are NaN or infinite.
    """
    engine = engine_of(model)
    tokens = np.concatenate([np.asarray(context, np.int64), np.asarray(continuation, np.int64)])
    start, length = len(context), len(continuation)
    drawn = np.concatenate(list(_draws(length, mc_num, np.random.default_rng(seed))))
    masks, counts = np.unique(drawn, axis=0, return_counts=True)  # short continuations repeat themselves
    total = 0.0
    for masked, count in zip(masks, counts, strict=True):
        at = start + np.flatnonzero(masked)
        total += count * length / len(at) * _log_probability(engine, tokens, at)
    return total / mc_num, check_greedy and _is_greedy(engine, tokens, start)


def _draws(length: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Masks, bool [draws, length], in batches over which the number of masked tokens is spread evenly."""
    for first in range(0, draws, BATCH):
        size = min(BATCH, draws - first)
        counts = 1 + (rng.integers(length) + np.round(np.arange(size) * length / size).astype(int)) % length
        order = rng.random((size, length)).argsort(axis=1).argsort(axis=1)
        yield order < counts[:, None]


def _log_probability(engine: Engine, tokens: Ints, masked: Ints) -> float:
    """Sum of the log-probabilities of the tokens at ``masked`` positions when those are masked."""
    fed = tokens.copy()
    fed[masked] = engine.model.ids.mask
    targets = np.stack([np.zeros_like(masked), masked], axis=1)
    forward = Forward("step", fed, np.arange(len(fed)), targets, len(fed), labels=tokens[masked])
    (prediction,) = engine.answer([(None, forward)])
    if not prediction.finite.all():
        raise NonFiniteLogits("the logits of a likelihood are NaN or infinite.")
    return float(prediction.log_confidence.sum())


def _is_greedy(engine: Engine, tokens: Ints, start: int) -> bool:
    """Whether decoding the most confident token of each forward gives ``tokens[start:]``; stops at the first other."""
    length = len(tokens) - start
    setting = Setting(gen_length=length, block_length=length)
    stop = StopRule(patterns=(), eos=(engine.model.ids.eos,))
    decided: list[bool] = []
    sampler = sample(
        tokens[:start],
        setting,
        stop,
        engine.model.ids.mask,
        shift=engine.model.network.shift,
        watch=lambda event: decided.append(bool((tokens[event.accepted] == event.tokens).all())),
    )
    forward = next(sampler)
    try:
        while not decided or decided[-1]:
            forward = sampler.send(engine.answer([(None, forward)])[0])
    except StopIteration:
        pass
    return all(decided)

"""A small model in larger shapes computes what it computes."""

import pytest
import torch

from odb_dllm import DiffusionModel, InputError, generate
from odb_dllm.bench.expand import expand

SHAPE = {"d_model": 512, "n_heads": 8, "n_layers": 14, "mlp_hidden_size": 500, "vocab_size": 5000}


@pytest.fixture(scope="module")
def prompts(tiny: DiffusionModel) -> list[list[int]]:
    assert tiny.tokenizer is not None
    texts = [
        "Tom has 3 apples and buys 4 more. How many apples does Tom have?",
        "A box holds 6 pens. How many do 4 hold?",
    ]
    return [tiny.tokenizer.encode(f"Question: {text}\nAnswer:") for text in texts]


@pytest.mark.parametrize("dense", [False, True])
def test_same_predictions_and_confidences(tiny: DiffusionModel, prompts: list[list[int]], dense: bool) -> None:
    large = expand(tiny, SHAPE, dense=dense)
    assert large.network.config.head == 64
    for prompt in prompts:
        tokens = torch.tensor([prompt + [tiny.ids.mask] * 64])
        positions = torch.arange(tokens.shape[1])
        with torch.inference_mode():
            wanted, got = (m.network.logits(m.network(tokens, positions)[0, -64:]).softmax(-1) for m in (tiny, large))
        assert not got[..., wanted.shape[-1] :].any()
        assert (got[..., : wanted.shape[-1]] - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("dense", [False, True])
def test_same_generations(tiny: DiffusionModel, prompts: list[list[int]], dense: bool) -> None:
    large = expand(tiny, SHAPE, dense=dense)
    for setting in ("fast_dllm_baseline", "jump-share"):
        for prompt in prompts:
            wanted, got = (generate(m, prompt, setting=setting, gen_length=64) for m in (tiny, large))
            assert (got.tokens, got.nfe) == (wanted.tokens, wanted.nfe)


def test_dense_activations_are_dense(tiny: DiffusionModel, prompts: list[list[int]]) -> None:
    hidden = [
        m.network(torch.tensor([prompts[0]]), torch.arange(len(prompts[0])))
        for m in (expand(tiny, SHAPE), expand(tiny, SHAPE, dense=True))
    ]
    assert [float((h.abs() > 1e-6).float().mean()) > 0.99 for h in hidden] == [False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d_model": 128, "n_heads": 4}, "less than the small model's"),
        ({"n_layers": 3}, "n_layers 3 is less"),
        ({"n_heads": 4, "d_model": 480}, "multiple of the small model's"),
    ],
)
def test_shapes_that_are_too_small(tiny: DiffusionModel, change: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        expand(tiny, SHAPE | change)

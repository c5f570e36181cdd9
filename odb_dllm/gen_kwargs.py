"""What a task's generation arguments (lm-eval's ``gen_kwargs``) mean for a diffusion model.

The canvas: an explicit ``gen_length`` model argument, whatever the task says; else the task's
``max_gen_toks`` rounded up to whole blocks; else the setting's own 1024. Tokens are drawn only with
``do_sample=True``.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from odb_dllm.arguments import Arguments
from odb_dllm.errors import InputError
from odb_dllm.setting_values import setting_values
from odb_dllm.settings import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
METADATA = ("stop", "theta", "eos_guard")  # what a task's YAML may carry in its metadata
# Arguments that change nothing at these values; at others they cannot be honoured and are named once.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1, 1.0),
    "top_k": (0, -1),
    "min_p": (0, 0.0),
    "typical_p": (1, 1.0),
    "num_beams": (1,),
    "repetition_penalty": (1, 1.0),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
}
_HONOURED = {"until", "stop", "do_sample", "temperature", *LENGTHS}
_TECHNICAL = {"use_cache", "pad_token_id", "eos_token_id", "return_dict_in_generate", "odb_dllm"}


def until_of(gen: Mapping[str, Any]) -> tuple[str, ...]:
    """The strings at which the text is cut: ``until`` (or ``stop``), one or several; no empty ones."""
    found: list[str] = []
    for name in ("until", "stop"):
        given = gen.get(name)
        if given is None:
            continue
        strings = [given] if isinstance(given, str) else given
        if not isinstance(strings, (list, tuple)) or not all(isinstance(text, str) for text in strings):
            raise InputError(f"{name} must be a string or a list of strings, not {given!r}.")
        found += strings
    return tuple(dict.fromkeys(text for text in found if text))


def setting_of(
    arguments: Arguments, gen: Mapping[str, Any], metadata: Mapping[str, Any], *, end_of_turn: bool
) -> Setting:
    """Return the setting of one request; explicit model arguments win over the task's.

    Args:
        arguments: the model's arguments.
        gen: the request's generation arguments.
        metadata: the task's, of which ``METADATA`` is read.
        end_of_turn: whether a chat template was applied.
    """
    # What a preset says by itself (streaming stops at EOS alone) is part of its method and stays.
    given = task_values(metadata)
    open_ = {name for name in given if getattr(arguments.setting, name) is None}
    changes = {name: given[name] for name in open_ - arguments.explicit}
    length = _length(arguments, gen)
    if length is not None:
        changes["gen_length"] = length
    temperature = _temperature(gen)
    if temperature and "temperature" not in arguments.explicit:
        changes["temperature"] = temperature
    if temperature:  # what filters the tokens that are drawn; without do_sample none is
        filters = [name for name in ("top_p", "top_k") if gen.get(name) not in (None, *NEUTRAL[name])]
        changes |= setting_values({name: gen[name] for name in filters if name not in arguments.explicit})
        gen = {name: value for name, value in gen.items() if name not in filters}
    if end_of_turn:
        changes["end_of_turn"] = True
    for name, value in gen.items():
        if name not in _HONOURED | _TECHNICAL and value not in (None, *NEUTRAL.get(name, ())):
            warn_once(f"Generation argument {name}={value!r} has no meaning here and is left out.")
    return arguments.setting.override(**changes) if changes else arguments.setting


def task_values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The setting's fields that a task's metadata carries."""
    return setting_values({name: metadata[name] for name in METADATA if metadata.get(name) is not None})


def cut(text: str, until: tuple[str, ...]) -> str:
    """``text`` before the earliest of the ``until`` strings."""
    return text[: min((at for stop in until if (at := text.find(stop)) >= 0), default=len(text))]


def final_text(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], until: tuple[str, ...]) -> tuple[str, int]:
    """Return the text of a response canvas, and how many tokens it is.

    It is cut with the special tokens still in it, and they are stripped afterwards, as published. So text
    after an EOS stays unless ``until`` cuts it.
    """
    kept = cut(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False), until)
    special = set(tokenizer.all_special_ids)
    ids = [token for token in tokenizer.encode(kept, add_special_tokens=False) if token not in special]
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False), len(ids)


@cache
def warn_once(message: str) -> None:
    """Log a warning the first time that it is said in this process."""
    logger.warning(message)


def _length(arguments: Arguments, gen: Mapping[str, Any]) -> int | None:
    """The canvas that a request asks for, in whole blocks; None where the setting's stays."""
    asked = next((gen[name] for name in LENGTHS if gen.get(name) is not None), None)
    if asked is None:
        return None
    if isinstance(asked, bool) or not isinstance(asked, (int, float)) or asked < 1 or asked != int(asked):
        raise InputError(f"max_gen_toks must be a whole number of at least 1, not {asked!r}.")
    setting = arguments.setting
    if "gen_length" in arguments.explicit:
        if asked != setting.gen_length:
            warn_once(f"The task asks for max_gen_toks {asked}; gen_length {setting.gen_length} is used, as given.")
        return None
    return -(-int(asked) // setting.block_length) * setting.block_length


def _temperature(gen: Mapping[str, Any]) -> float:
    """The temperature that a request samples with; 0 unless it says do_sample."""
    temperature = gen.get("temperature") or 0.0
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise InputError(f"temperature must be a number of at least 0, not {temperature!r}.")
    if not gen.get("do_sample"):
        if temperature > 0:
            warn_once(f"Generation argument temperature={temperature} is left out: it needs do_sample=True.")
        return 0.0
    return float(temperature)

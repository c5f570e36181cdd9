"""What every family's config.json says under one name or another: sizes, special tokens, and their limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from odb_dllm.errors import InputError

MAX_SIZE, MAX_LAYERS = 2**26, 1000  # far beyond any model: what exceeds them is a corrupt file
Made = TypeVar("Made", bound="ModelConfig")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a transformer; families add what is theirs."""

    KEYS: ClassVar[Mapping[str, str]] = {}  # {field: what config.json calls it}, where that is another name

    d_model: int
    n_heads: int
    n_kv_heads: int
    n_layers: int
    mlp_hidden_size: int
    vocab_size: int
    max_sequence_length: int
    mask_token_id: int
    eos_token_id: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    weight_tying: bool = False

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    def check(self) -> None:
        """Raise ``InputError``, in config.json's words, where the sizes contradict each other."""
        says = {name: self.KEYS.get(name, name) for name in self.__dataclass_fields__}
        limits = dict.fromkeys(("d_model", "mlp_hidden_size", "vocab_size", "max_sequence_length"), MAX_SIZE)
        limits |= {"n_heads": MAX_SIZE, "n_kv_heads": MAX_SIZE, "n_layers": MAX_LAYERS}
        for key, limit in limits.items():
            if not 1 <= getattr(self, key) <= limit:
                raise InputError(f"config.json: {says[key]} must lie between 1 and {limit}, not {getattr(self, key)}.")
        for key in ("rope_theta", "rms_norm_eps"):
            if not 0 < getattr(self, key) < float("inf"):
                raise InputError(f"config.json: {says[key]} must be a positive number, not {getattr(self, key)}.")
        if self.d_model % self.n_heads or self.head % 2:
            raise InputError(
                f"config.json: {says['d_model']} {self.d_model} must be {says['n_heads']} {self.n_heads} times an "
                "even head width."
            )
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"config.json: {says['n_heads']} {self.n_heads} must be a multiple of {says['n_kv_heads']} "
                f"{self.n_kv_heads}."
            )
        if self.mask_token_id == self.eos_token_id:
            raise InputError(
                f"config.json: mask_token_id and eos_token_id must differ, and both are {self.eos_token_id}."
            )
        for key in ("mask_token_id", "eos_token_id"):
            if not 0 <= getattr(self, key) < self.vocab_size:
                raise InputError(
                    f"config.json: {key} {getattr(self, key)} is outside the vocabulary of {self.vocab_size}."
                )


def read_config(
    config: Mapping[str, Any], family: str, fixed: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Made]
) -> Made:
    """Make a family's config from the dict in config.json and check it.

    Args:
        family: with its article, as in "a LLaDA".
        fixed: variants that are not supported, as {key: the value that is}; an absent or null key is that value.
        make: reads the keys; what it raises for absent and wrong ones becomes one sentence.

    Raises:
        InputError: a key that is missing, of the wrong type or out of range, or a variant that is not supported.
    """
    for key, value in fixed.items():
        if config.get(key, value) not in (value, None):
            raise InputError(f"config.json: {key} = {config[key]!r} is not supported, only {value!r}.")
    try:
        made = make(config)
    except KeyError as error:
        raise InputError(f"config.json lacks the key {error.args[0]!r}, which {family} needs.") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"config.json holds a value of the wrong type for {family}: {error}.") from None
    made.check()
    return made

"""The fields of a setting from the loose values that command lines, lm-eval and tasks give."""

import ast
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from odb_dllm.settings import CHOICES, Setting

SETTING_FIELDS = tuple(f.name for f in fields(Setting) if f.name not in ("name", "end_of_turn"))
_INTEGERS = ("gen_length", "block_length", "steps", "window_size", "top_k", "seed")
_TEXTS = (*CHOICES, "rule")


def setting_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Setting fields from elsewhere (a task's metadata), or of an expression, read like model arguments."""
    return {name: setting_value(name, value) for name, value in given.items()}


def setting_value(name: str, value: Any) -> Any:
    """One setting field as its own type: what a command line spells, or the value itself."""
    if name in _TEXTS:
        word = value.strip().lower() if isinstance(value, str) else value
        return None if word == "none" and name == "rule" else word
    if name == "stop":
        return _stop(value)
    value = literal(value)
    if name in _INTEGERS and isinstance(value, float) and value.is_integer():
        return int(value)  # lm-eval's parser makes floats of negative numbers
    return value


def _stop(value: Any) -> Any:
    """``stop`` as Setting takes it: one string or id stands for a list of one."""
    if isinstance(value, str):
        if value.lower() in ("none", "eos"):
            return None if value.lower() == "none" else "eos"
        parsed = literal(value) if value.startswith(("[", "(")) else value
        return tuple(parsed) if isinstance(parsed, (list, tuple)) else (value,)
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return value


def literal(value: Any) -> Any:
    """The number, None, boolean or list that a string spells; the value itself where it spells none."""
    if not isinstance(value, str):
        return value
    text = {"none": "None", "true": "True", "false": "False"}.get(value.strip().lower(), value.strip())
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return value

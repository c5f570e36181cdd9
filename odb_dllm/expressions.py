"""Setting expressions: a preset and switches of it, such as ``jump-share+refresh=response+grow=256``."""

import re
from collections.abc import Mapping
from typing import Any

from odb_dllm.errors import InputError, nearest
from odb_dllm.setting_values import SETTING_FIELDS, setting_value
from odb_dllm.settings import Setting

SHARED = ("gen_length", "block_length", "seed")  # what commands give to all of their settings
_PLUS = re.compile(r"\+(?=\s*[A-Za-z_]\w*\s*=)")  # and not that of 1e+0
_PARTING = frozenset(",'\"[](){}")  # what lists of settings are parted by


def changes(preset: str, expression: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """What an expression changes of its preset, its name included, together with fields that were given beside it.

    Raises ``InputError`` where those say something else than the expression.
    """
    found = switches(expression)
    for name, value in found.items():
        if name in beside and beside[name] != value:
            raise InputError(_contradiction(expression, name, value, beside[name]))
    return {"name": written(preset, found), **found, **beside}


def written(preset: str, values: Mapping[str, Any]) -> str:
    """The one expression of a preset and fields: in a setting's order, and spelled so that they read back."""
    ordered = sorted(values.items(), key=lambda each: SETTING_FIELDS.index(each[0]))
    return "".join([preset, *(f"+{name}={spelled(name, value)}" for name, value in ordered)])


def spelled(name: str, value: Any) -> str:
    """A field's value as expressions have it: numbers, True, False, None and lists as in Python, texts as they are."""
    if name == "stop" and isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], str):
        return value[0] if _is_plain(value[0]) else _literal(value)
    return value if isinstance(value, str) else _literal(value)


def switches(expression: str) -> dict[str, Any]:
    """The fields after the preset, and their values read as model arguments are; raises ``InputError``."""
    found: dict[str, Any] = {}
    for part in _parts(expression):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (name and equals and value):
            raise InputError(
                f"{part!r} in {expression!r} is no field=value: a preset takes them each with a + before it, such as "
                "jump-share+refresh=response."
            )
        if name not in SETTING_FIELDS:
            raise InputError(f"Unknown setting field {name!r}: {nearest(name, list(SETTING_FIELDS))}.")
        if name in found:
            raise InputError(f"{expression!r} sets {name} twice: say it once.")
        found[name] = _whole(setting_value(name, value))
        usual = getattr(Setting, name)
        if found[name] is None and usual is not None:
            raise InputError(f"{name}={value} in {expression!r} is no value: leave {name} out for {usual}.")
    return found


def switched(name: str) -> list[str]:
    """The fields that a setting's name sets, if it is an expression."""
    return [part.partition("=")[0].strip() for part in _parts(name)]


def start(name: str) -> str:
    """What a setting's name begins with, by which settings are ordered: ``alp`` of ``alp+length=mass``."""
    return re.split("[ +]", name, maxsplit=1)[0]


def _parts(expression: str) -> list[str]:
    """What stands after each + that parts fields."""
    _, plus, fields = expression.partition("+")
    return _PLUS.split(fields) if plus else []


def _contradiction(expression: str, name: str, value: Any, other: Any) -> str:
    if name not in SHARED:
        return f"{expression!r} sets {name}, and {name} {other} is asked beside it: say it once."
    asked = spelled(name, value)
    return (
        f"{expression!r} sets {name} {asked}, and all settings here run with {name} {other}: leave it out of the "
        f"expression and give it by --{name} {asked}, or by {name}={asked} among the arguments."
    )


def _is_plain(text: str) -> bool:
    """Whether a stop text reads back as itself, also from a list of settings."""
    alone = text == text.strip() and not _PLUS.search(text) and not _PARTING.intersection(text)
    return alone and setting_value("stop", text) == (text,)


def _literal(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_literal, value))}]"
    return _PLUS.sub(r"\\x2b", repr(_whole(value)))  # a + within a text parts no fields


def _whole(value: Any) -> Any:
    """1 for 1.0, so that a number has one spelling."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

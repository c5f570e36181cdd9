"""Setting expressions: a preset and switches of it, such as ``jump-share+refresh=response+grow=256``."""

import re
from collections.abc import Mapping
from typing import Any

from odb_dllm.errors import InputError, nearest
from odb_dllm.setting_values import SETTING_FIELDS, setting_values


def changes(expression: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """What an expression changes of its preset, its name included, together with fields that were given beside it.

    Raises ``InputError`` where those say something else than the expression.
    """
    found = _switches(expression)
    for name, value in found.items():
        if name in beside and beside[name] != value:
            raise InputError(f"{expression!r} sets {name}, and {name} {beside[name]} is asked beside it: say it once.")
    return {"name": expression, **found, **beside}


def start(name: str) -> str:
    """What a setting's name begins with, by which settings are ordered: ``alp`` of ``alp+length=mass``."""
    return re.split("[ +]", name, maxsplit=1)[0]


def switched(name: str) -> list[str]:
    """The fields that a setting's name sets, if it is an expression."""
    return [part.partition("=")[0].strip() for part in name.split("+")[1:]]


def _switches(expression: str) -> dict[str, Any]:
    """The fields after the preset, and their values read as model arguments are."""
    given: dict[str, str] = {}
    for part in expression.split("+")[1:]:
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (name and equals and value):
            raise InputError(
                f"{part!r} in {expression!r} is no field=value: a preset takes them each with a + before it, such as "
                "jump-share+refresh=response."
            )
        if name not in SETTING_FIELDS:
            raise InputError(f"Unknown setting field {name!r}: {nearest(name, list(SETTING_FIELDS))}.")
        if name in given:
            raise InputError(f"{expression!r} sets {name} twice: say it once.")
        given[name] = value
    return setting_values(given)

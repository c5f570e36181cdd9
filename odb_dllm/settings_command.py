"""``odb-dllm settings``: the presets and the fields of settings, or every field of one setting."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from odb_dllm.expressions import spelled
from odb_dllm.presets import all_settings, get_setting, preset_of
from odb_dllm.setting_values import SETTING_FIELDS
from odb_dllm.settings import CHOICES, Setting
from odb_dllm.statistics import markdown
from odb_dllm.unmasking import RULES

HEADS = ("cache", "rule", "threshold", "length", "suffix", "speculation", "early_exit")
DEFAULTS = {each.name: each.default for each in fields(Setting)}
KINDS = {int: "whole number", float: "number", bool: "True, False"}
ACCEPTED = {  # of fields whose type says too little
    "rule": ", ".join(RULES),
    "refresh": "full, response, response:n, every:k, window:w",
    "costs": "file of odb-dllm bench, [(tokens,ms),...]",
    "stop": "eos, text, [text,id,[id,id],...]",
}


def add_verb(subparsers: Any) -> argparse.ArgumentParser:
    """Add the verb to lm-eval's subparsers."""
    about = "List the settings and their fields, or check one setting and show every field of it"
    parser: argparse.ArgumentParser = subparsers.add_parser("settings", help=about, description=f"{about}.")
    parser.add_argument("setting", nargs="?", help="such as jump-share or jump-share+refresh=response (default: all)")
    parser.set_defaults(func=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the verb; raises ``InputError`` for a setting that is none."""
    print(overview() if args.setting is None else page(args.setting))
    return 0


def overview() -> str:
    """The presets as a Markdown table, and every field with its default and the values that it takes."""
    rows = [[name, *_preset(setting)] for name, setting in all_settings().items()]
    about = [[name, _value(name, DEFAULTS[name]), accepted(name), described(name)] for name in SETTING_FIELDS]
    return "\n\n".join(
        [
            markdown([["setting", *HEADS, "further"], *rows]),
            "A setting takes further fields after a + each, such as jump-share+refresh=response+grow=256:",
            _columns([["field", "default", "values", "what it decides"], *about]),
        ]
    )


def page(name: str) -> str:
    """Every field of a setting, and what set it: its preset, or the expression; raises ``InputError``."""
    preset, setting = preset_of(name), get_setting(name)
    rows = [["field", "value", "from"]]
    for field in SETTING_FIELDS:
        value = getattr(setting, field)
        origin = preset.name if value != DEFAULTS[field] else "default"
        rows.append([field, _value(field, value), origin if value == getattr(preset, field) else "changed"])
    return f"{setting.name}\n\n{_columns(rows)}"


def accepted(name: str) -> str:
    """The values that a field takes, in words."""
    hint = get_type_hints(Setting)[name]
    kinds = get_args(hint) or (hint,)
    kind = next((KINDS[each] for each in kinds if each in KINDS), "")
    words = ", ".join(CHOICES.get(name, ())) or ACCEPTED.get(name, kind)
    return f"{words}, None" if type(None) in kinds else words


def described(name: str) -> str:
    """What a field decides, as its annotation has it."""
    return str(get_type_hints(Setting, include_extras=True)[name].__metadata__[0])


def _preset(setting: Setting) -> list[str]:
    """The cells of a preset: the fields at the head, and those that it changes besides."""
    values = {name: getattr(setting, name) for name in SETTING_FIELDS}
    shown = ["-" if values[name] in (None, False, "none") else _value(name, values[name]) for name in HEADS]
    further = [name for name in SETTING_FIELDS if name not in HEADS and values[name] != DEFAULTS[name]]
    return [*shown, " ".join(f"{name}={_value(name, values[name])}" for name in further) or "-"]


def _value(name: str, value: Any) -> str:
    return value.__name__ if callable(value) else spelled(name, value)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines with their cells below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

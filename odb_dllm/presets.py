"""The named settings: the published methods, two of our own, and those of other packages.

ODB-dLLM (arXiv 2511.21759), Fast-dLLM (2505.22618), Streaming-dLLM (2601.17917) and Dream's own decoding (2508.15487).
Other packages add presets through the entry point group ``odb_dllm.settings``.
"""

import logging
from dataclasses import replace
from functools import cache as memoize
from importlib.metadata import entry_points
from typing import Any

from odb_dllm.errors import InputError, nearest
from odb_dllm.expressions import changes
from odb_dllm.settings import DEFAULT_THRESHOLD, Setting

logger = logging.getLogger(__name__)

_FAST: dict[str, Any] = {"cache": "dual", "threshold": DEFAULT_THRESHOLD}
_ADAPTIVE: dict[str, Any] = {**_FAST, "length": "adaptive", "early_exit": True}
PRESETS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("llada_baseline"),
        Setting("fast_dllm_baseline", **_FAST),
        Setting("alp", **_ADAPTIVE),
        Setting("accept-jump", **_ADAPTIVE, speculation="accept-jump"),
        Setting("jump-share", **_ADAPTIVE, speculation="jump-share"),
        Setting("jump-share-exact", **_ADAPTIVE, speculation="exact"),
        Setting("odb-turbo", **_ADAPTIVE, speculation="jump-share", refresh="response:96", grow=256, ahead=1),
        Setting("parallel", threshold=DEFAULT_THRESHOLD),
        Setting("prefix-cache", cache="prefix"),
        Setting("prefix-cache-parallel", cache="prefix", threshold=DEFAULT_THRESHOLD),
        Setting("dual-cache", cache="dual"),
        Setting("dual-cache-parallel-exit", **_FAST, early_exit=True),
        Setting("streaming", cache="prefix", rule="dynamic", suffix="window", early_exit=True, stop="eos"),
        Setting("dream_baseline", order="whole", alg="entropy"),
    )
}
ALIASES = {"baseline": "llada_baseline", "dualcache": "fast_dllm_baseline"}


@memoize
def all_settings() -> dict[str, Setting]:
    """Every preset by name: ours, then those of installed packages (``odb_dllm.settings`` entry points)."""
    found = dict(PRESETS)
    for point in entry_points(group="odb_dllm.settings"):
        try:
            setting = point.load()
        except Exception as error:  # another package's fault must not take our settings away
            logger.warning("Setting %r of another package could not be loaded: %r.", point.name, error)
            continue
        if not isinstance(setting, Setting) or point.name in found:
            why = "is a name that is taken" if point.name in found else f"is no Setting but {setting!r}"
            logger.warning("Setting %r of another package %s.", point.name, why)
            continue
        found[point.name] = replace(setting, name=point.name)
    return found


def _plain(name: str) -> str:
    """A setting's name without case, - for _."""
    return name.lower().replace("_", "-")


def _find(name: str) -> Setting | None:
    known = {_plain(each): preset for each, preset in all_settings().items()}
    return known.get(_plain(ALIASES.get(_plain(name), name)))


def preset_of(name: str) -> Setting:
    """The preset that a setting's name is, or begins with before a ``+``; raises ``InputError``."""
    start = name.partition("+")[0].strip()
    if (found := _find(name) or _find(start)) is None:
        raise InputError(f"Unknown setting {start!r}: {nearest(start, list(all_settings()) + list(ALIASES))}.")
    return found


def get_setting(setting: str | Setting, **overrides: Any) -> Setting:
    """Return a setting by name (any case, aliases included), by an expression (a preset and changes of it, such as
    ``alp+length=mass``) or as given, with some fields changed. An expression's name is the preset's and every field in
    the order given, whatever they were spelled like. Raises ``InputError`` that lists the valid names."""
    if isinstance(setting, str):
        preset = preset_of(setting)
        overrides = overrides if _find(setting) else changes(preset.name, setting, overrides)
        setting = preset
    elif not isinstance(setting, Setting):
        raise InputError(f"setting must be a name or an odb_dllm.Setting, not {setting!r}.")
    return setting.override(**overrides) if overrides else setting

"""Settings: what a sampler does, as a small frozen record whose switches can each be set on their own.

``presets`` has the named ones.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np

from odb_dllm.contract import Score
from odb_dllm.costs import Points, read_costs
from odb_dllm.errors import InputError, nearest
from odb_dllm.unmasking import RULES, Rule

CHOICES: dict[str, tuple[str, ...]] = {
    "cache": ("none", "prefix", "dual"),
    "length": ("fixed", "adaptive", "mass"),
    "prefix": ("none", "shared"),
    "suffix": ("full", "window"),
    "speculation": ("none", "accept-jump", "jump-share", "exact", "auto"),
    "remasking": ("low_confidence", "random"),
    "order": ("blocks", "whole"),
    "alg": ("none", "maskgit_plus", "topk_margin", "entropy", "confidence_threshold"),
}
# Dream's algorithms that take the best positions by a schedule, and what each calls best.
RANKED: dict[str, Score] = {"maskgit_plus": "confidence", "topk_margin": "margin", "entropy": "entropy"}
REFRESH = re.compile("full|response(:[0-9]+)?|every:[1-9][0-9]*|window:[0-9]+")
COUNTED = ("quota", "schedule", "carry")  # rules that spread a block over its share of the steps
DEFAULT_THRESHOLD, DEFAULT_FACTOR = 0.9, 1.0
Pattern = int | str | tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """Everything that decides which tokens a generation gets; each field's annotation says what it does.

    Raises ``InputError`` where a value is out of range or two switches make no sense together.
    """

    name: str = "custom"
    gen_length: Annotated[int, "response positions at the start (G), in whole blocks"] = 1024
    block_length: Annotated[int, "positions of a block (B)"] = 32
    steps: Annotated[int | None, "forwards of the quota, schedule and carry rules; None = gen_length"] = None
    cache: Annotated[str, "what a step feeds, and what it sees from the last refresh"] = "none"
    rule: Annotated[str | Rule | None, "which masks become tokens; None = by alg, factor and threshold"] = None
    threshold: Annotated[float | None, "confidence from which masks become tokens"] = None
    factor: Annotated[float | None, "of the factor rule"] = None
    confidence_alpha: Annotated[float | None, "of the dynamic rule; None = the published table"] = None
    refresh: Annotated[str, "what of the canvas a block's first forward feeds"] = "full"
    prefix: Annotated[str, "shared: what prompts begin with alike is computed once"] = "none"
    length: Annotated[str, "predict the answer's end: adaptive by the task's stop patterns, mass by EOS"] = "fixed"
    grow: Annotated[int | None, "begin with so many positions, and keep so many ahead until an end is predicted"] = None
    suffix: Annotated[str, "window: forwards see window_size positions behind the block, and the last"] = "full"
    window_size: Annotated[int | None, "of suffix=window; None = the published table"] = None
    speculation: Annotated[str, "drafts that steps verify; exact and auto keep the tokens of none"] = "none"
    costs: Annotated[Points | None, "what steps take, for speculation=auto; None = as on an H200, or a CPU"] = None
    ahead: Annotated[int, "masks that a block may leave to the next block's refresh"] = 0
    early_exit: Annotated[bool, "a written stop pattern ends the generation"] = False
    stop: Annotated[str | tuple[Pattern, ...] | None, "stop patterns; None = by task, eos = EOS alone"] = None
    theta: Annotated[float | None, "confidence that length prediction asks of a stop pattern; None = by task"] = None
    eos_guard: Annotated[bool | None, "length prediction overlooks an early EOS; None = by task"] = None
    order: Annotated[str, "whole: the response is one block, whatever block_length says"] = "blocks"
    alg: Annotated[str, "Dream's algorithms: what positions are ranked by, and their rule"] = "none"
    alg_temp: Annotated[float, "above 0, the schedule rule draws its positions instead of taking the best"] = 0.0
    temperature: Annotated[float, "above 0, tokens are drawn"] = 0.0
    top_p: Annotated[float | None, "tokens are drawn from the smallest set whose probability exceeds it"] = None
    top_k: Annotated[int | None, "and from so many at most"] = None
    seed: Annotated[int, "of what is drawn"] = 0
    remasking: Annotated[str, "which masks the quota rule takes"] = "low_confidence"
    cfg_scale: Annotated[float, "classifier-free guidance"] = 0.0
    end_of_turn: Annotated[bool, "the end-of-turn token counts as EOS (set with a chat template)"] = False

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):  # numbers from a sweep's np.arange
                put(field.name, value.item())
            elif value is None and field.default is not None:
                put(field.name, field.default)
            elif field.name in CHOICES and isinstance(value, str):
                put(field.name, value.lower())
        for name in ("cache", "speculation"):
            if getattr(self, name) is False:
                put(name, "none")
        put("stop", _stop_patterns(self.stop))
        put("costs", read_costs(self.costs))
        _check_types(self)
        if self.rule is None:
            put("rule", _rule_of(self.alg, self.order, self.threshold, self.factor))
        if self.rule in ("threshold", "dynamic", "carry") and self.threshold is None:
            put("threshold", DEFAULT_THRESHOLD)
        if self.rule == "factor" and self.factor is None:
            put("factor", DEFAULT_FACTOR)
        _check_ranges(self)
        _check_lengths(self)
        _check_combinations(self)

    @property
    def span(self) -> int:
        """Response positions that are decoded together: a block, or all of them."""
        return self.gen_length if self.order == "whole" else self.block_length

    @property
    def predicts_length(self) -> bool:
        """Whether refreshes look for the answer's end."""
        return self.length != "fixed"

    @property
    def blocks(self) -> int:
        return self.gen_length // self.span

    @property
    def steps_per_block(self) -> int:
        """Forwards that the quota, schedule and carry rules spend on each block."""
        return (self.gen_length if self.steps is None else self.steps) // self.blocks

    @property
    def score(self) -> Score:
        """What positions are ranked by."""
        return RANKED.get(self.alg, "confidence")

    @property
    def filters(self) -> bool:
        """Whether some tokens are left out before one is drawn."""
        return (self.top_p is not None and self.top_p < 1) or bool(self.top_k)

    def override(self, **changes: Any) -> "Setting":
        """Return this setting with some fields changed.

        ``threshold=None`` means none: the quota rule, unless a factor is given; ``factor`` replaces the
        threshold; ``alg`` brings its own rule. An explicit ``rule`` wins over all. Unknown names raise
        ``InputError``.
        """
        valid = [f.name for f in fields(self)]
        for name in changes:
            if name not in valid:
                raise InputError(f"Unknown setting field {name!r}: {nearest(name, valid)}.")
        if changes.get("rule") is None:
            changes.pop("rule", None)
            rule = _rule_after(self, changes)
            if rule is not None:
                changes["rule"] = rule
        elif changes["rule"] in ("threshold", "dynamic", "carry") and changes.get("threshold", 0) is None:
            raise InputError(f"rule={changes['rule']} needs a threshold; threshold=None means the quota rule.")
        return replace(self, **changes)


def _rule_of(alg: str, order: str, threshold: float | None, factor: float | None) -> str:
    """The rule of a setting that names none."""
    if factor is not None:
        return "factor"
    if alg in RANKED:
        return "schedule"
    if alg == "confidence_threshold":
        return "carry" if order == "whole" else "threshold"
    return "quota" if threshold is None else "threshold"


def _rule_after(setting: Setting, changes: dict[str, Any]) -> str | Rule | None:
    """The rule that a changed alg, threshold or factor implies; None where they leave it as it is."""
    given = {"alg", "threshold", "factor"} & changes.keys()
    if not given or (callable(setting.rule) and any(changes[name] is not None for name in given)):
        return None  # a function reads what it likes from the setting
    alg = str(changes.get("alg", setting.alg) or "none").lower()
    order = str(changes.get("order", setting.order) or "blocks").lower()
    threshold, factor = changes.get("threshold", setting.threshold), changes.get("factor", setting.factor)
    if alg == "confidence_threshold" and factor is None and changes.get("threshold", 0) is None:
        raise InputError("alg=confidence_threshold needs a threshold, and threshold=None means none.")
    rule = _rule_of(alg, order, threshold, factor)
    return "dynamic" if rule == "threshold" and setting.rule == "dynamic" else rule


def _check_types(s: Setting) -> None:
    def is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def is_int(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    kinds: tuple[tuple[Callable[[Any], bool], str, tuple[str, ...], bool], ...] = (
        (is_int, "a whole number", ("gen_length", "block_length", "seed", "ahead"), False),
        (is_int, "a whole number", ("steps", "window_size", "top_k", "grow"), True),
        (is_number, "a number", ("temperature", "alg_temp", "cfg_scale"), False),
        (is_number, "a number or None", ("threshold", "factor", "confidence_alpha", "theta", "top_p"), True),
        (lambda v: isinstance(v, bool), "True or False", ("early_exit", "end_of_turn"), False),
        (lambda v: isinstance(v, bool), "True, False or None", ("eos_guard",), True),
    )
    for accepts, words, names, optional in kinds:
        for name in names:
            value = getattr(s, name)
            if not (accepts(value) or (optional and value is None)):
                raise InputError(f"{name} must be {words}, not {value!r}.")
    for name, choices in CHOICES.items():
        if getattr(s, name) not in choices:
            raise InputError(f"Unknown {name} {getattr(s, name)!r}: {nearest(str(getattr(s, name)), list(choices))}.")
    if not (s.rule is None or callable(s.rule) or (isinstance(s.rule, str) and s.rule in RULES)):
        raise InputError(f"Unknown rule {s.rule!r}: {nearest(str(s.rule), list(RULES))}.")
    if not (isinstance(s.refresh, str) and REFRESH.fullmatch(s.refresh)):
        raise InputError(
            "refresh must be full, response, response:n, every:k (k from 1) or window:w (n and w from 0), "
            f"not {s.refresh!r}."
        )
    _check_stop(s.stop)


def _stop_patterns(stop: Any) -> Any:
    """``stop`` with one pattern as a tuple of one, lists as tuples and numpy's numbers as Python's."""
    if isinstance(stop, (np.ndarray, np.generic)):
        stop = stop.tolist()
    if stop == "eos" or stop is None:
        return stop
    if isinstance(stop, (str, int)) and not isinstance(stop, bool):
        return (stop,)
    if not isinstance(stop, (list, tuple)):
        return stop
    plain = (p.tolist() if isinstance(p, (np.ndarray, np.generic)) else p for p in stop)
    return tuple(_pattern(p) if isinstance(p, (list, tuple)) else p for p in plain)


def _pattern(ids: Any) -> tuple[Any, ...]:
    return tuple(token.item() if isinstance(token, np.generic) else token for token in ids)


def _check_stop(stop: Any) -> None:
    def is_id(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def is_pattern(value: Any) -> bool:
        ids = isinstance(value, (list, tuple)) and len(value) > 0 and all(is_id(v) for v in value)
        return is_id(value) or ids or (isinstance(value, str) and value != "")

    if stop is None or stop == "eos":
        return
    if not isinstance(stop, (list, tuple)) or not all(is_pattern(p) for p in stop):
        raise InputError(
            f'stop must be None, "eos" or a list of strings, token ids or lists of token ids, not {stop!r}.'
        )


def _check_ranges(s: Setting) -> None:
    unit = ("threshold", "theta", "confidence_alpha", "top_p")
    for name in unit:
        value = getattr(s, name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} must lie between 0 and 1, not {value}.")
    for name in ("temperature", "alg_temp", "cfg_scale", "window_size", "factor", "top_k", "ahead"):
        value = getattr(s, name)
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(f"{name} must be a finite number of at least 0, not {value}.")


def _check_lengths(s: Setting) -> None:
    if s.gen_length < 1 or s.block_length < 1:
        raise InputError(f"gen_length and block_length must be at least 1, not {s.gen_length} and {s.block_length}.")
    if s.gen_length % s.span:
        raise InputError(
            f"gen_length {s.gen_length} must be a multiple of block_length {s.block_length}; "
            f"{-(-s.gen_length // s.block_length) * s.block_length} would be."
        )
    if s.grow is not None and not (s.grow > 0 and s.grow % s.span == 0):
        of = "gen_length (order=whole has no blocks)" if s.order == "whole" else "block_length"
        raise InputError(f"grow {s.grow} must be a positive multiple of {of} {s.span}.")
    fits = s.steps is None or (s.steps >= 1 and s.steps % s.blocks == 0 and s.steps <= s.gen_length)
    if s.rule in COUNTED and not fits:
        blocks = "" if s.order == "whole" else f"a multiple of the {s.blocks} blocks (gen_length / block_length) and "
        raise InputError(f"steps {s.steps} must be {blocks}at most gen_length {s.gen_length}.")
    if s.rule == "carry" and s.span % s.steps_per_block:
        raise InputError(
            f"rule=carry (alg=confidence_threshold) needs as many positions in each step: {s.span} do not divide "
            f"into {s.steps_per_block} steps."
        )
    if s.rule == "schedule" and s.cache != "none" and s.steps_per_block < 2 and s.span > 1:
        raise InputError(
            f"rule=schedule (alg={s.alg}) with cache={s.cache} needs at least 2 steps a block, the refresh and one "
            f"more: steps {s.steps} are {s.steps_per_block} for each of {s.blocks} blocks."
        )


def _check_combinations(s: Setting) -> None:
    if s.speculation != "none":
        if s.cache != "dual":
            raise InputError(f"speculation={s.speculation} needs cache=dual: its branches share the cached canvas.")
        if s.rule != "threshold":
            raise InputError(f"speculation={s.speculation} needs the fixed threshold rule to accept drafts by.")
        if s.temperature > 0:
            raise InputError(f"speculation={s.speculation} needs temperature 0: a drawn token cannot be verified.")
    if s.predicts_length and s.suffix == "window":
        raise InputError(
            f"length={s.length} needs suffix=full: a pruned suffix leaves nothing to predict the end from."
        )
    if s.refresh != "full" and (s.cache != "dual" or s.suffix == "window"):
        raise InputError(f"refresh={s.refresh} needs cache=dual and suffix=full: what is not fed is read from there.")
    if s.prefix == "shared" and (s.cache != "dual" or s.suffix == "window"):
        raise InputError("prefix=shared needs cache=dual and suffix=full: the prefix is read from the cache.")
    reach = s.refresh.partition("window:")[2]
    if s.speculation in ("exact", "auto") and reach and int(reach) < s.span:
        raise InputError(
            f"speculation={s.speculation} needs refresh=window:{s.span} or more: steps with branches store nothing, so "
            "that the next refresh must feed the whole block before it."
        )
    if s.ahead and s.cache != "dual":
        raise InputError(f"ahead={s.ahead} needs cache=dual: a block's last masks are left to the next one's refresh.")
    if s.cfg_scale > 0 and s.cache != "none":
        raise InputError("cfg_scale above 0 needs cache=none: the unconditional canvas has no cache.")
    if s.alg in RANKED and s.rule != "schedule":
        raise InputError(f"alg={s.alg} takes the best positions by rule=schedule: leave rule and factor out.")
    if s.alg_temp > 0 and s.rule != "schedule":
        raise InputError("alg_temp above 0 draws positions for rule=schedule: give alg=" + ", ".join(RANKED) + ".")
    if s.remasking == "random" and s.rule != "quota":
        raise InputError("remasking=random needs the quota rule: the others choose by confidence.")

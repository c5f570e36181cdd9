"""Speculation inside a block: which drafts were accepted and which branch was chosen, per stage."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from odb_dllm.contract import Pass
from odb_dllm.report.figures.drawing import light, solid
from odb_dllm.report.figures.groups import Group
from odb_dllm.report.figures.plot import Key, Plot, in_order, panels, table
from odb_dllm.report.runs import Run
from odb_dllm.speculation import JUMP, SHARE
from odb_dllm.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYOUTS = {len(JUMP): JUMP, len(SHARE): SHARE}  # by branches fed
DRAFTS = "abcd"
STAGES = (1, 2)
FILLS = {1: solid, 2: light}


@dataclass(frozen=True)
class Stage:
    """The speculative steps of one stage."""

    stage: int  # 1: four branches; 2: eight
    offered: tuple[int, ...]  # steps that offered draft a, b, ...
    accepted: tuple[int, ...]  # steps that went on with a branch that holds it
    chosen: tuple[int, ...]  # steps that went on with branch 0, 1, ...

    @property
    def steps(self) -> int:
        return sum(self.chosen)

    @property
    def acceptance(self) -> list[float]:
        """The share of each draft's offers that were accepted."""
        return [accepted / offered for accepted, offered in zip(self.accepted, self.offered, strict=True) if offered]

    @property
    def choices(self) -> list[float]:
        """The share of the steps that went on with each branch."""
        return [chosen / self.steps for chosen in self.chosen]


def stages(traces: Iterable[Trace]) -> list[Stage]:
    """The stages that there were, from the steps that fed several branches."""
    made = sorted((each for trace in traces for each in trace.passes if each.branches in LAYOUTS), key=_branches)
    return [_stage(list(of)) for _, of in groupby(made, _branches)]


def _branches(made: Pass) -> int:
    return made.branches


def _stage(made: Sequence[Pass]) -> Stage:
    layout = LAYOUTS[made[0].branches]
    drafts = range(max(map(len, layout)))
    return Stage(
        stage=list(LAYOUTS).index(len(layout)) + 1,
        offered=tuple(sum(each.drafts > draft for each in made) for draft in drafts),
        accepted=tuple(sum(each.drafts > draft and draft in layout[each.chosen] for each in made) for draft in drafts),
        chosen=tuple(sum(each.chosen == branch for each in made) for branch in range(len(layout))),
    )


def branch_name(branch: int) -> str:
    """The drafts that a branch holds; those of stage 1 are the first of stage 2."""
    return "".join(DRAFTS[draft] for draft in SHARE[branch]) or "none"


def plot_drafts(group: Group) -> Plot | None:
    """Acceptance by rank of the draft; None where nothing was speculated."""
    heads = ["task", "setting", "stage", "draft", "offered", "accepted", "share"]

    def rows(of: Stage) -> list[list[object]]:
        counts = zip(DRAFTS, of.offered, of.accepted, of.acceptance, strict=False)
        return [[draft, offered, accepted, f"{share:.1%}"] for draft, offered, accepted, share in counts]

    about = (
        "Drafts a to d are the most confident masked positions, the most confident first. Bars: of the steps that "
        "offered a draft, the share that went on with a branch that holds it. Stage 1 feeds 4 branches, stage 2 "
        "feeds 8."
    )
    paint_drafts = partial(_paint, values=lambda of: of.acceptance, names=list(DRAFTS), label="accepted, % of offers")
    return _plot(group, "drafts", "Drafts accepted", about, heads, rows, paint_drafts)


def plot_branches(group: Group) -> Plot | None:
    """The branches that were gone on with; None where nothing was speculated."""
    heads = ["task", "setting", "stage", "branch", "chosen", "share"]
    names = [branch_name(branch) for branch in range(len(SHARE))]

    def rows(of: Stage) -> list[list[object]]:
        counts = zip(names, of.chosen, of.choices, strict=False)
        return [[name, chosen, f"{share:.1%}"] for name, chosen, share in counts]

    about = (
        "The share of the speculative steps that went on with each branch, named by the drafts that it holds. Stage 1 "
        "feeds the first 4 branches, stage 2 all 8."
    )
    paint_branches = partial(_paint, values=lambda of: of.choices, names=names, label="chosen, % of steps")
    return _plot(group, "branches", "Branches chosen", about, heads, rows, paint_branches)


def _plot(
    group: Group,
    name: str,
    title: str,
    about: str,
    heads: Sequence[str],
    rows: Callable[[Stage], list[list[object]]],
    paint: Callable[..., None],
) -> Plot | None:
    found = group.collect(_stages_of)
    if not found:
        return None
    every = [(task, setting, of) for task, made in found.items() for setting, each in made.items() for of in each]
    shown = {(setting, of.stage) for _, setting, of in every}
    return Plot(
        group.file(name),
        group.title(title),
        about,
        tuple(
            Key(f"{setting}, stage {stage}", group.colours[setting], "bar" if stage == 1 else "light")
            for setting in in_order(setting for setting, _ in shown)
            for stage in STAGES
            if (setting, stage) in shown
        ),
        panels(found, lambda each: sum(of.steps for of in each), partial(paint, colours=group.colours), "{} steps"),
        table(heads, [[task, setting, of.stage, *row] for task, setting, of in every for row in rows(of)]),
        height=2.3,
    )


def _stages_of(run: Run) -> list[Stage]:
    if run.setting.get("speculation") == "auto":  # whose layouts are no stages
        return []
    return stages(run.result.traces.values())


def _paint(
    axes: "Axes",
    made: Mapping[str, list[Stage]],
    colours: Mapping[str, str],
    values: Callable[[Stage], list[float]],
    names: Sequence[str],
    label: str,
) -> None:
    """Bars side by side, a set per name."""
    series = [(setting, of) for setting, each in made.items() for of in each]
    width = 0.84 / len(series)
    most = max(len(values(of)) for _, of in series)
    for at, (setting, of) in enumerate(series):
        shares = [100 * share for share in values(of)]
        xs = [i + (at - (len(series) - 1) / 2) * width for i in range(len(shares))]
        axes.bar(xs, shares, 0.88 * width, **FILLS[of.stage](colours[setting]))
    axes.set_xticks(range(most), names[:most])
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set(ylabel=label, ylim=(0, 100))

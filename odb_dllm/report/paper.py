"""``odb-dllm reproduce --paper``: a paper's own table, as its protocol has it, a folder of cells per length."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from odb_dllm import tasks
from odb_dllm.errors import InputError, nearest
from odb_dllm.folder_names import plain_name
from odb_dllm.protocols import ODB_DLLM, Protocol, ProtocolTask, get_protocol, is_published, prompt_hash
from odb_dllm.report import command, layout, running
from odb_dllm.report.cells import CODE, Key, benchmark
from odb_dllm.report.command import Asked, Plan
from odb_dllm.splitting import separated

if TYPE_CHECKING:
    from odb_dllm.models.loading import DiffusionModel

T = TypeVar("T")


@dataclass(frozen=True)
class Paper:
    """A paper's table, checked; no weights are read yet."""

    protocol: Protocol  # what of it is asked
    out: Path
    plans: tuple[Plan, ...]  # one per length
    published: bool  # whether the paper's figures are of this model
    remarks: tuple[str, ...]  # where this run is not as the paper's


def asked(args: argparse.Namespace) -> Protocol | None:
    """The protocol that --paper asks for; None for ODB-dLLM's, whose layout is the command's own."""
    if args.paper.strip().lower() != ODB_DLLM:
        protocol = get_protocol(args.paper, args.model)
        if protocol.paper != ODB_DLLM:
            return protocol
    if args.chat_template is not None:
        raise InputError(f"--chat_template belongs to the other papers: {ODB_DLLM} applies none.")
    return None


def reproduce(args: argparse.Namespace, protocol: Protocol) -> int:
    """Run a paper's table; 1 where a cell or a sample failed. Raises ``InputError`` before anything expensive."""
    with tasks.local_data(args.data_dir) as local:
        paper, said = _plan(args, protocol, local)
        for plan in paper.plans:
            command.claim(plan)
        for sentence in (said, *paper.remarks):
            if sentence:
                print(sentence, file=sys.stderr)
        return _run(paper)


def narrowed(protocol: Protocol, args: argparse.Namespace) -> Protocol:
    """The part of a protocol that the command line asks for.

    Tasks go by lm-eval's name or the published one, settings by theirs or by the column's.
    """
    chosen = protocol
    if args.tasks is not None:
        found = _chosen("task", tasks.split(args.tasks), [((t.name, t.task), t) for t in protocol.tasks], protocol)
        chosen = replace(chosen, tasks=found)
    if args.settings is not None:
        named = [((c.label, c.setting), c) for c in protocol.columns if c.setting]
        chosen = replace(chosen, columns=_chosen("setting", separated(args.settings), named, protocol))
    if args.gen_length is not None:
        chosen = replace(chosen, lengths=(args.gen_length,))
    if args.chat_template is not None:
        chosen = replace(chosen, chat_template=args.chat_template == "yes")
    return chosen


def _chosen(
    kind: str, words: Sequence[str], named: Sequence[tuple[tuple[str, ...], T]], protocol: Protocol
) -> tuple[T, ...]:
    """Those that the words name, in the protocol's order; case, - and _ make no difference."""
    known = list(dict.fromkeys(name for names, _ in named for name in names))
    if not words:
        raise InputError(f"No {kind}: name one or several with --{kind}s, of {', '.join(known)}.")
    wanted = {_plain(word) for word in words}
    for word in words:
        if _plain(word) not in map(_plain, known):
            raise InputError(f"{protocol.name} has no {kind} {word!r}: {nearest(word, known)}.")
    return tuple(each for names, each in named if wanted & set(map(_plain, names)))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _plan(args: argparse.Namespace, protocol: Protocol, local: tasks.LocalData) -> tuple[Paper, str]:
    """The plans of all lengths; and what is left out, as a sentence."""
    part = narrowed(protocol, args)
    names, said = command.consented([each.task for each in part.tasks], False, args.confirm_run_unsafe_code)
    part = replace(part, tasks=tuple(each for each in part.tasks if each.task in names))
    asked_at = [_asked(part, length) for length in part.lengths]
    first = command.model_arguments(args, asked_at[0])
    given = [replace(first, gen_length=each.gen_length) for each in asked_at]
    leaves = command.load(names, local, {each.task: each.shots for each in part.tasks})
    changed = [sentence for each in part.tasks if (sentence := check_task(each, leaves[each.task], protocol))]
    default = Path("results") / "tables" / protocol.name / plain_name(args.model)
    out = Path(args.out) if args.out else default
    plans = tuple(
        command.make_plan(args, each, arguments, leaves, out / str(each.gen_length), None)
        for each, arguments in zip(asked_at, given, strict=True)
    )
    other = [f"{length} is not a length of the paper." for length in part.lengths if length not in protocol.lengths]
    if part.chat_template != protocol.chat_template:
        other.append(
            f"The chat template is {'applied' if part.chat_template else 'left out'}, as --chat_template says."
        )
    published = is_published(protocol, args.model)
    if not published:
        other.append(f"{args.model} is not the model of that table: no published figures are shown.")
    return Paper(part, out, plans, published, (*changed, *other)), said


def _asked(protocol: Protocol, length: int) -> Asked:
    columns = [(each, each.setting) for each in protocol.columns if each.setting]
    overrides = {
        (each.task, setting): made
        for each in protocol.tasks
        for column, setting in columns
        if (made := protocol.overrides(each, length, column))
    }
    return Asked(
        tasks=[each.task for each in protocol.tasks],
        settings=[setting for _, setting in columns],
        gen_length=length,
        overrides=overrides,
        chat=protocol.chat_template,
        about={"protocol": protocol.name, "chat_template": protocol.chat_template},
    )


def check_task(task: ProtocolTask, leaves: running.Leaves, protocol: Protocol) -> str:
    """Refuse another version of a task than the protocol's; a sentence where its prompts are other ones.

    The latter are those of other documents than the published ones, or of another lm-eval.
    """
    versions = {str(each.VERSION) for each in leaves.values()}
    if versions != {str(task.version)}:
        raise InputError(
            f"{protocol.name} fixes version {task.version} of {task.task}, and the installed lm-eval has "
            f"{' and '.join(sorted(versions))}: install an lm-eval that has it, such as 0.4.13."
        )
    if hash_of(leaves) == task.prompt:
        return ""
    return f"The prompts of {task.task} are not those that {protocol.name} fixes: other documents, or another lm-eval."


def hash_of(leaves: running.Leaves) -> str:
    """The hash of each leaf's first prompt, without a chat template."""
    for task in leaves.values():
        running.build(task, limit=1)
    return prompt_hash((name, task.instances[0].args[0]) for name, task in leaves.items())


def _run(paper: Paper) -> int:
    failed: dict[tuple[int, Key], str] = {}
    model: DiffusionModel | None = None
    try:
        for plan in paper.plans:
            at: dict[Key, str] = {}
            print(f"{plan.given.gen_length} tokens to generate", file=sys.stderr)
            try:
                model = command.run_cells(plan, at, model)
            finally:
                failed |= {(plan.given.gen_length, key): why for key, why in at.items()}
    except KeyboardInterrupt:
        print(file=sys.stderr)
        _report(paper, failed)
        raise
    return _report(paper, failed)


def _report(paper: Paper, failed: dict[tuple[int, Key], str]) -> int:
    figures = _figures(paper)
    said = {(f"{length} {task}", setting): why for (length, (task, setting)), why in failed.items()}
    return command.publish(paper.out, render(paper, figures), layout.to_csv(figures), said)


def _figures(paper: Paper) -> list[layout.Figures]:
    results = {plan.given.gen_length: command.read_results(plan) for plan in paper.plans}
    return layout.figures(paper.protocol, results, published=paper.published)


def render(paper: Paper, figures: Iterable[layout.Figures]) -> str:
    """The whole page: what was run, the table, and where it is not or may not be as the paper ran it."""
    protocol, shared = paper.protocol, paper.plans[0].shared
    figures = list(figures)
    lengths = " and ".join(str(length) for length in protocol.lengths)
    parts = [
        f"# {protocol.name} (arXiv {protocol.arxiv}, table {protocol.table}): {shared['model']}, {shared['dtype']} on "
        f"{shared['device']}, batch {shared['batch_size']}, {lengths} tokens to generate in blocks of "
        f"{shared['block_length']}, {'with the' if protocol.chat_template else 'no'} chat template"
    ]
    wanted = [each for each in figures if each.setting is not None]
    if missing := sum(each.n is None for each in wanted):
        parts.append(f"**Partial: {missing} of {len(wanted)} cells are missing.**")
    parts.append(layout.to_markdown(protocol, figures))
    if any(benchmark(each.task) in CODE for each in protocol.tasks):
        parts.append("pass@1 of humaneval is that of the program extracted from the answer.")
    said = [*paper.remarks, *protocol.notes]
    return "\n\n".join([*parts, "\n".join(f"- {sentence}" for sentence in said)]) + "\n"

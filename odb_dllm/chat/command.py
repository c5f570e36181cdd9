"""The loop of ``odb-dllm chat``: reads questions and commands, shows answers."""

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import torch

from odb_dllm.arguments import Arguments, parse
from odb_dllm.chat import keyboard, layout
from odb_dllm.chat.painter import Painter, Typist, can_redraw, size, standing
from odb_dllm.chat.session import Session, costs, progress
from odb_dllm.errors import InputError, nearest
from odb_dllm.generation import NonFiniteLogits
from odb_dllm.models import family_class
from odb_dllm.models.loading import TOKENIZER_FILES, DiffusionModel, find_folder, load_model, read_config
from odb_dllm.presets import ALIASES, all_settings
from odb_dllm.setting_values import SETTING_FIELDS
from odb_dllm.stream import Snapshot, has_template

COMMANDS = {
    "/setting": "/setting NAME  goes on under another setting; without a name, lists them",
    "/reset": "/reset         forgets the conversation",
    "/save": "/save FILE     writes the conversation as JSON, with the setting and statistics",
    "/help": "/help          shows this",
    "/quit": "/quit          leaves, as Ctrl-D does; Ctrl-C stops an answer",
}


def chat(args: argparse.Namespace) -> int:
    """Run the verb: 0; 1 where, without a terminal, a question or a command failed. Raises ``InputError`` at once."""
    arguments = parse(_given(args))
    model = _load(arguments)
    with contextlib.suppress(AttributeError):  # of streams that are none of the system's
        sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    return Chat(Session.start(model, arguments, args.system)).run()


def _given(args: argparse.Namespace) -> dict[str, object]:
    names = ("setting", "device", "dtype", *SETTING_FIELDS)
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    return {"pretrained": args.model, **given}


def _load(arguments: Arguments) -> DiffusionModel:
    """Load the model; what its small files tell is checked before its weights are read."""
    folder, wanted = find_folder(arguments.pretrained), arguments.setting.gen_length
    config = read_config(folder)
    with torch.device("meta"):
        longest = family_class(config.get("model_type")).from_config(config).config.max_sequence_length
    if wanted >= longest:
        raise InputError(f"gen_length {wanted} leaves no room for a question: the model's maximum is {longest} tokens.")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{arguments.pretrained} has no tokenizer, and a conversation is text.")
    model = load_model(folder, device=arguments.device, dtype=arguments.dtype)
    return replace(model, name=arguments.pretrained)


class Chat:
    """One run: a session, and where it is typed and shown."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.typed = sys.stdin.isatty()
        self.on_terminal = sys.stdout.isatty()
        # What is no answer: between the answers on a terminal, apart from them elsewhere.
        self.notes: TextIO = sys.stdout if self.typed and self.on_terminal else sys.stderr
        self.redraws = can_redraw(sys.stdout)
        self.failed = False

    def run(self) -> int:
        if not has_template(self.session.model):
            self._note(
                f"{self.session.model.name} has no chat template: it goes on from the conversation's plain text."
            )
        for line in self._lines():
            words = line.strip()
            if re.fullmatch(r"/[A-Za-z]*( .*)?", words):
                if words.split()[0].lower() == "/quit":
                    break
                self._guarded(self._command, words)
            elif words:
                self._guarded(self._answer, words)
        return 1 if self.failed and not self.typed else 0

    def _lines(self) -> Iterable[str]:
        if not self.typed:
            return sys.stdin
        self._introduce()
        keyboard.prepare_editing(_completions)
        hint = "\n(/quit or Ctrl-D leaves)"
        return keyboard.lines(
            prompt_to_stdout=self.on_terminal, on_interrupt=lambda: print(hint, file=self.notes, flush=True)
        )

    def _introduce(self) -> None:
        model, setting = self.session.model, self.session.setting
        self._note(
            f"{model.name}, {str(model.dtype).removeprefix('torch.')} on {model.device}, {setting.name}, answers of up "
            f"to {setting.gen_length} tokens. /help lists the commands."
        )

    def _guarded(self, run: Callable[[str], None], words: str) -> None:
        try:
            run(words)
        except (InputError, NonFiniteLogits) as error:
            self._note(f"error: {error}", "plain")
            self.failed = True
        except KeyboardInterrupt as error:  # one too many: the answer is stopped already
            if not self.typed or type(error) is not KeyboardInterrupt:
                raise

    def _note(self, text: str, style: layout.Style = "note") -> None:
        """Say something that is no answer."""
        if self.notes is sys.stdout and self.redraws:
            text = _wrapped(text, style)
        print(text, file=self.notes, flush=True)

    # Commands -------------------------------------------------------------------------------------

    def _command(self, words: str) -> None:
        name, _, rest = words.partition(" ")
        name, rest = name.lower(), rest.strip()
        if name == "/setting":
            self._setting(rest)
        elif name == "/reset":
            self.session.reset()
            self._note("The conversation is forgotten.")
        elif name == "/save":
            self._save(rest)
        elif name == "/help":
            self._note("\n".join(COMMANDS.values()))
        else:
            raise InputError(f"Unknown command {name!r}: {nearest(name, list(COMMANDS))}.")

    def _setting(self, name: str) -> None:
        if name:
            self.session.switch(name)
        current = self.session.setting.name
        self._note(f"setting {current}" if name else f"setting {current}, of {', '.join(all_settings())}")

    def _save(self, name: str) -> None:
        if not name:
            raise InputError("/save needs the name of a file.")
        path = Path(name).expanduser()
        try:
            self.session.save(path)
        except OSError as error:
            raise InputError(f"The conversation cannot be written to {path}: {error.strerror}.") from error
        self._note(f"saved to {path}")

    # Answers --------------------------------------------------------------------------------------

    def _answer(self, question: str) -> None:
        """Put a question, show the answer while it is made, and keep it."""
        with contextlib.ExitStack() as stack:
            interrupts = stack.enter_context(keyboard.Interrupts() if self.typed else contextlib.nullcontext())
            if self.typed:
                stack.enter_context(keyboard.quiet())
            try:
                snapshot = self._watch(question, interrupts)
            except (InputError, NonFiniteLogits):
                self.session.conversation.take_back()
                raise
            text = standing(self.session.model, snapshot)
            self.session.keep(text, snapshot, stopped=not snapshot.finished)
            self._print(text, snapshot)

    def _watch(self, question: str, interrupts: keyboard.Interrupts | None) -> Snapshot:
        """Show an answer forward by forward; the last snapshot, which is not the end where Ctrl-C was pressed."""
        session, latest = self.session, None
        with closing(session.ask(question, self._say_dropped)) as answer:
            latest = next(answer)
            with self._display() as display:
                display.show(latest)
                try:
                    for latest in answer:
                        display.show(latest)
                        if interrupts and interrupts.asked:
                            break
                except keyboard.Impatient:  # in the middle of a forward
                    pass
                finally:
                    if interrupts:
                        interrupts.over = True
        return latest

    def _display(self) -> Painter | Typist:
        model = self.session.model
        if self.redraws:
            return Painter(sys.stdout, model, progress)
        self.typist = Typist(sys.stdout, model, layout.harmless if self.on_terminal else str)
        return self.typist

    def _print(self, text: str, snapshot: Snapshot) -> None:
        """The answer as it stays, and what it cost."""
        if self.redraws:
            print(_wrapped(text, "plain"))
        else:
            self.typist.write(text)
            print()
        sys.stdout.flush()
        self._note(("" if snapshot.finished else "stopped: ") + costs(snapshot))
        if self.notes is sys.stdout:
            print(flush=True)

    def _say_dropped(self, count: int) -> None:
        most = self.session.model.max_length
        self._note(
            f"The conversation exceeds the model's {most} tokens: the prompt leaves out its {count} oldest messages."
        )


def _wrapped(text: str, style: layout.Style) -> str:
    """``text`` as lines of the terminal that stdout is."""
    width = max(size(sys.stdout)[0] - 1, 2)
    return "\n".join(layout.render(line) for line in layout.wrap(layout.cells([(text, style)]), width))


def _completions(before: str) -> Sequence[str]:
    if not before:
        return list(COMMANDS)
    return [*all_settings(), *ALIASES] if before.strip() == "/setting" else []

"""The page: what is on it, and what happens when something is pressed."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from odb_dllm.demo import render
from odb_dllm.demo.recording import Recording
from odb_dllm.demo.running import Session, Sessions, Turns, generate
from odb_dllm.errors import InputError
from odb_dllm.expressions import switched
from odb_dllm.generation import NonFiniteLogits
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.presets import all_settings, get_setting
from odb_dllm.settings import Setting
from odb_dllm.stream import answer_text, blank, pieces

logger = logging.getLogger(__name__)
EXAMPLES = (
    "Sam has 12 coins and finds 5 more. How many coins does Sam have?",
    "Anna has 24 marbles. She gives 7 of them to Ben and loses 5. How many marbles does Anna have left?",
    "Mia buys 4 boxes with 6 pens in each and gives away 9 pens. How many pens does Mia have left?",
)
HINT = "Ask something: the answer appears here, and in the canvas how it is made."
FRAME = 0.08  # seconds between two pictures: more than a browser shows help nobody
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
Updates = dict[Any, Any]


@dataclass(frozen=True)
class Defaults:
    """What the page starts with."""

    setting: str = "jump-share"
    compare: str = "fast_dllm_baseline"
    gen_length: int = 256
    block_length: int = 32
    threshold: float = 0.9


@dataclass(frozen=True)
class Asked:
    """What the controls say, in their order on the page."""

    text: str
    setting: str
    compare: bool
    other: str
    gen_length: float | None
    block_length: float | None
    threshold: float
    pause: float

    def settings(self) -> list[Setting]:
        """The settings to generate with; raises ``InputError`` where the numbers make no sense."""
        names = [self.setting, *([self.other] if self.compare else [])]
        return [chosen(name, self.gen_length, self.block_length, self.threshold) for name in names]


def chosen(name: str, gen_length: float | None, block_length: float | None, threshold: float) -> Setting:
    """A setting with the page's numbers, where its name leaves them open; the threshold is for those that have one."""
    if gen_length is None or block_length is None:
        raise InputError("gen_length and block_length must be whole numbers of at least 1.")
    changes: dict[str, Any] = {"gen_length": int(gen_length), "block_length": int(block_length)}
    if get_setting(name).threshold is not None:
        changes["threshold"] = threshold
    return get_setting(name, **{field: value for field, value in changes.items() if field not in switched(name)})


class Demo:
    """The page's components and what they do."""

    def __init__(self, model: DiffusionModel, defaults: Defaults) -> None:
        self.model, self.defaults = model, defaults
        self.turns, self.sessions = Turns(), Sessions()
        with gr.Blocks(title="odb_dllm demo", analytics_enabled=False, fill_width=True) as self.page:
            self._layout()
            self._wire()

    # What is on the page ----------------------------------------------------------------------------------

    def _layout(self) -> None:
        """Three areas, which ``style.CSS`` places: what is asked, what is shown, and the numbers."""
        gr.HTML(_title(self.model), padding=False)
        with gr.Row(elem_id="areas"):
            with gr.Column(elem_id="ask"):
                self._question()
            with gr.Column(elem_id="show"):
                self.notice = gr.HTML("", elem_id="notice", padding=False)
                with gr.Row(elem_id="lanes"):
                    first = self._lane(0, visible=True)
                    second = self._lane(1, visible=False)
                self.columns, self.lanes, self.sliders = zip(first, second, strict=True)
                gr.HTML(render.legend(), padding=False)
            with gr.Column(elem_id="numbers"):
                self._numbers()

    def _question(self) -> None:
        given = self.defaults
        known = list(dict.fromkeys([*all_settings(), given.setting]))
        self.talk = gr.HTML(render.conversation([], hint=HINT), elem_id="talk", padding=False)
        self.text = gr.Textbox(
            lines=2,
            max_lines=8,
            show_label=False,
            placeholder="Your question",
            elem_id="prompt",
            container=False,
            autofocus=True,
        )
        with gr.Row(elem_id="buttons"):
            self.go = gr.Button("Generate", variant="primary", elem_id="generate", min_width=80)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False, min_width=80)
            self.new = gr.Button("Start over", elem_id="new", min_width=80)
        with gr.Column(elem_id="examples"):
            self.examples = [gr.Button(each, size="sm", elem_classes="od-example") for each in EXAMPLES]
        with gr.Group():
            self.setting = gr.Dropdown(known, value=given.setting, label="Setting", elem_id="setting")
            self.compare = gr.Checkbox(label="Compare with a second setting", elem_id="compare")
            self.other = gr.Dropdown(known, value=given.compare, label="Second setting", elem_id="other", visible=False)

    def _numbers(self) -> None:
        given = self.defaults
        number: dict[str, Any] = {"precision": 0, "min_width": 100}
        with gr.Group():
            with gr.Row():
                self.gen_length = gr.Number(given.gen_length, label="gen_length", elem_id="gen_length", **number)
                self.block_length = gr.Number(
                    given.block_length, label="block_length", elem_id="block_length", **number
                )
            self.threshold = gr.Slider(
                0,
                1,
                given.threshold,
                step=0.01,
                label="threshold",
                info="Of settings that have one",
                elem_id="threshold",
            )
            self.pause = gr.Slider(
                0, 1, 0, step=0.05, label="slow motion", info="Seconds after each forward, not counted", elem_id="pause"
            )

    def _lane(self, index: int, visible: bool) -> tuple[Any, Any, Any]:
        name = (self.defaults.setting, self.defaults.compare)[index]
        with gr.Column(visible=visible, min_width=320, elem_id=f"column{index}") as column:
            lane = gr.HTML(self._blank(name), elem_id=f"lane{index}", padding=False)
            slider = gr.Slider(
                0,
                1,
                0,
                step=1,
                label="after forward",
                interactive=False,
                elem_id=f"slider{index}",
                elem_classes="od-slider",
            )
        return column, lane, slider

    def _blank(self, name: str) -> str:
        setting = chosen(name, self.defaults.gen_length, self.defaults.block_length, self.defaults.threshold)
        recording = Recording(setting.name, blank(self.model, setting), self.model.ids.mask, state="ready")
        return render.lane(recording, self._pieces, setting.block_length)

    # What happens -----------------------------------------------------------------------------------------

    def _wire(self) -> None:
        asked = [self.text, self.setting, self.compare, self.other, self.gen_length, self.block_length]
        asked += [self.threshold, self.pause]
        shown = [self.text, self.talk, self.notice, *self.lanes, *self.sliders, self.go, self.stop]
        plain = {"show_progress": "hidden", "api_visibility": "private"}
        run: dict[str, Any] = {"fn": self._generate, "inputs": asked, "outputs": shown, **plain}
        self.go.click(**run)
        self.text.submit(**run)
        self.stop.click(self._stop, None, None, queue=False, **plain)
        self.new.click(self._new, None, shown, queue=False, **plain)
        self.compare.change(
            lambda on: (gr.update(visible=on), gr.update(visible=on)),
            self.compare,
            [self.other, self.columns[1]],
            queue=False,
            **plain,
        )
        for each in self.examples:
            each.click(lambda text=each.value: text, None, self.text, queue=False, **plain)
        for index, slider in enumerate(self.sliders):
            slider.input(
                self._moved(index), slider, self.lanes[index], queue=False, trigger_mode="always_last", **plain
            )
        self.page.unload(self._closed)

    def _generate(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Generate what the controls say, and show it as it grows."""
        asked, session = Asked(*values), self.sessions.of(request.session_hash)
        if session.busy:  # Enter while it generates
            return
        if not asked.text.strip():
            yield {self.notice: render.notice("Write a prompt first.")}
            return
        session.busy = True
        session.stop.clear()
        session.conversation.ask(asked.text.strip())
        try:
            yield from self._show(asked, session)
        except Exception as error:  # whatever it is, the page must not stay as if it were generating
            yield {self.notice: render.notice(_reason(error)), self.text: asked.text, **self._idle(session)}
        finally:
            session.busy = False
            session.conversation.take_back()  # where it has got no answer

    def _show(self, asked: Asked, session: Session) -> Iterator[Updates]:
        """One generation, from the first picture to the last; once the session is closed, an empty one."""
        begun: Updates = {
            self.text: "",
            self.notice: "",
            self.go: gr.update(interactive=False),
            self.stop: gr.update(interactive=True),
            **{slider: gr.update(interactive=False) for slider in self.sliders},
        }
        running = generate(
            self.model, self.turns, session.conversation, asked.settings(), session.stop, pause=asked.pause
        )
        drawn, seen = 0.0, None  # when, and what
        with closing(running):
            for session.recordings in running:
                if session.closed:
                    break
                now = [(each.state, each.ahead, each.nfe) for each in session.recordings]
                if now == seen:
                    yield {self.stop: gr.skip()}  # gradio looks for closed tabs between two of these
                elif begun or time.monotonic() - drawn >= FRAME:
                    yield {**begun, **self._frame(session)}
                    begun, drawn, seen = {}, time.monotonic(), now
        # Gradio shows the last of these again at the end, so that it must be what is to stay.
        yield self._fresh() if session.closed else self._finish(asked, session)

    def _finish(self, asked: Asked, session: Session) -> Updates:
        """Keep the first setting's answer, and let the next be asked for."""
        first = session.recordings[0]
        unanswered: Updates = {}
        if first.nfe:
            session.conversation.answer(answer_text(self.model, first.latest), stopped=first.state == "stopped")
        else:  # stopped while it waited
            session.conversation.take_back()
            unanswered = {self.text: asked.text}
        return {
            **self._frame(session),
            **self._idle(session),
            self.notice: render.comparison(session.recordings),
            **unanswered,
        }

    def _frame(self, session: Session) -> Updates:
        """How things stand: the talk and the lanes."""
        live = answer_text(self.model, session.recordings[0].latest) if session.busy and _asks(session) else None
        return {self.talk: render.conversation(session.conversation.messages, live, HINT), **self._drawn(session)}

    def _drawn(self, session: Session) -> Updates:
        both = session.recordings
        return {lane: self._lane_html(both, index) for index, lane in enumerate(self.lanes[: len(both)])}

    def _lane_html(self, both: Sequence[Recording], index: int, nfe: int | None = None) -> str:
        span = max(each.seconds for each in both)
        block = both[index].start.block
        return render.lane(both[index], self._pieces, block[1] - block[0], span, nfe)

    def _idle(self, session: Session) -> Updates:
        """The controls once nothing runs any more."""
        sliders = {
            slider: gr.update(maximum=each.nfe, value=each.nfe, interactive=True)
            for slider, each in zip(self.sliders, session.recordings, strict=False)
            if each.nfe
        }
        return {**sliders, self.go: gr.update(interactive=True), self.stop: gr.update(interactive=False)}

    def _stop(self, request: gr.Request) -> None:
        self.sessions.of(request.session_hash).stop.set()

    def _new(self, request: gr.Request) -> Updates:
        """Begin anew: end what is under way, forget what was said."""
        busy = self.sessions.of(request.session_hash).busy
        self.sessions.close(request.session_hash)
        return {self.stop: gr.update(interactive=False)} if busy else self._fresh()

    def _fresh(self) -> Updates:
        """Everything as it was at first."""
        names = (self.defaults.setting, self.defaults.compare)
        return {
            self.text: "",
            self.talk: render.conversation([], hint=HINT),
            self.notice: "",
            self.go: gr.update(interactive=True),
            self.stop: gr.update(interactive=False),
            **{slider: gr.update(interactive=False) for slider in self.sliders},
            **{lane: self._blank(name) for lane, name in zip(self.lanes, names, strict=True)},
        }

    def _closed(self, request: gr.Request) -> None:
        self.sessions.close(request.session_hash)

    def _moved(self, index: int) -> Any:
        def moved(nfe: float, request: gr.Request) -> Any:
            """Show one lane as it was after so many forwards."""
            session = self.sessions.of(request.session_hash)
            if session.busy or index >= len(session.recordings):
                return gr.skip()
            return self._lane_html(session.recordings, index, int(nfe))

        return moved

    def _pieces(self, snapshot: Any) -> Any:
        return pieces(self.model, snapshot)


def _reason(error: Exception) -> str:
    """What to say of a failure; those that nobody foresaw also go to the log."""
    if isinstance(error, (InputError, NonFiniteLogits)):
        return str(error)
    logger.error("A generation failed.", exc_info=error)
    return f"The generation failed: {type(error).__name__}: {error}"


def _asks(session: Session) -> bool:
    messages = session.conversation.messages
    return bool(messages) and messages[-1].role == "user"


def _title(model: DiffusionModel) -> str:
    dtype = str(model.dtype).removeprefix("torch.")
    size = sum(each.numel() for each in model.network.parameters()) / 1e6
    about = render.escape(f"{model.name}, {size:,.0f} M parameters, {dtype} on {model.device}")
    return f'<div class="od-title"><h1>odb_dllm</h1><span>{about}</span></div>'


def theme() -> Any:
    """Gradio's default without its fonts, which a browser would fetch."""
    return gr.themes.Default(primary_hue="blue", radius_size="md", font=list(FONTS), font_mono=list(MONO))

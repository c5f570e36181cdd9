"""What a certificate says: results as JSON and as a page of Markdown, and the verdict."""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from odb_dllm.certify.divergence import MARGINS, Divergence
from odb_dllm.generation import Generation
from odb_dllm.kernels import available
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.statistics import markdown
from odb_dllm.version import __version__


@dataclass(frozen=True)
class Sides:
    """What is compared with what."""

    title: str
    reference: str
    other: str
    seconds: str  # what those are
    batch_size: int | None = None  # of the other, where that is the difference

    @classmethod
    def batches(cls, size: int) -> "Sides":
        """So many generations under way at a time, and each by itself."""
        title = f"{size} generations at a time against one at a time"
        return cls(title, "one at a time", f"{size} at a time", "a generation's share of its forwards, the mean", size)


ENGINES = Sides("The fast engine against the plain one", "plain", "fast", "a generation's mean")
DEVIATION = (
    "largest difference of a predicted token's log probability between the forwards of a sequence by itself and in a "
    "batch (of each its own, where tokens differ), up to the first after which they decide differently"
)


@dataclass(frozen=True)
class Batch:
    """How a generation's forwards in a batch differ from those that it has by itself."""

    size: float  # sequences that shared a forward, this one included, on average
    forwards: int  # compared: those that both asked for, up to the first after which they decide differently
    deviation: float  # see DEVIATION


@dataclass(frozen=True)
class Comparison:
    """One prompt under one setting on both sides; pairs are (reference, other)."""

    setting: str
    prompt: int  # its index
    same: bool  # all tokens are
    equal_share: float  # of the positions, those with the same token
    nfe: tuple[int, int]
    seconds: tuple[float, float]  # without capturing; from admission to the last token, or what Sides.seconds says
    divergence: Divergence | None
    batch: Batch | None = None

    @classmethod
    def of(
        cls, setting: str, prompt: int, reference: Generation, other: Generation, divergence: Divergence | None
    ) -> "Comparison":
        equal = sum(a == b for a, b in zip(reference.tokens, other.tokens, strict=False))
        return cls(
            setting,
            prompt,
            reference.tokens == other.tokens,
            equal / max(len(reference.tokens), len(other.tokens)),
            (reference.nfe, other.nfe),
            (reference.latency, other.latency),
            divergence,
        )


@dataclass
class Certificate:
    """All comparisons of a run."""

    machine: dict[str, Any]
    gen_length: int
    required: float
    prompts: int
    settings: int
    comparison: Sides = ENGINES
    results: list[Comparison] = field(default_factory=list)
    capture_seconds: float = 0.0

    @property
    def agreement(self) -> float:
        """Share of generations that are equal, token for token."""
        return sum(each.same for each in self.results) / len(self.results)

    @property
    def passed(self) -> bool:
        return self.complete and self.agreement >= self.required

    @property
    def complete(self) -> bool:
        """Whether everything was compared: an interrupt may have come before."""
        return len(self.results) == self.prompts * self.settings

    @property
    def verdict(self) -> str:
        """One line."""
        same = sum(each.same for each in self.results)
        word = "CERTIFIED" if self.passed else "NOT CERTIFIED" if self.complete else "INTERRUPTED"
        return (
            f"{word}: {same} of {len(self.results)} generations ({self.agreement:.1%}) have the reference's tokens, "
            f"{self.required:.1%} are required; {self.speedup:.2f} times as fast"
            + ("" if self.deviation is None else f"; log confidences differ by {self.deviation:.2g} at most")
        )

    @property
    def speedup(self) -> float:
        reference, other = (sum(each.seconds[i] for each in self.results) for i in range(2))
        return reference / other

    @property
    def deviation(self) -> float | None:
        """The worst of all, where batches are compared."""
        return max((each.batch.deviation for each in self.results if each.batch), default=None)

    def pace(self) -> str:
        """What a progress bar says."""
        return f"{self.agreement:.1%} equal, {self.speedup:.2f} times as fast"

    def document(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {
            "verdict": self.verdict,
            "passed": self.passed,
            "agreement": self.agreement,
            "speedup": self.speedup,
            "deviation": self.deviation,
            **{name: value for name, value in asdict(self).items() if name != "results"},
            "margins": MARGINS,
            "results": [asdict(each) for each in self.results],
        }

    def markdown(self) -> str:
        """A page: machine, a table by setting, and one of the divergences."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        parts = [f"# {self.comparison.title}\n\n{self.verdict}\n\n{machine}"]
        parts.append(
            f"{self.prompts} prompts a setting, gen_length {self.gen_length}; seconds are {self.comparison.seconds}, "
            f"without the {self.capture_seconds:.1f} s that capturing graphs took once."
        )
        names = list(dict.fromkeys(each.setting for each in self.results))
        sides = self.comparison.reference, self.comparison.other
        measured = [f"{of}, {side}" for of in ("NFE", "s") for side in sides]
        heads = ["setting", "equal", "tokens equal", *measured, "speed-up"]
        heads += [] if self.deviation is None else ["mean batch", "worst deviation"]
        parts.append(markdown([heads, *(_line(name, self.results) for name in names)]))
        if self.deviation is not None:
            parts.append(f"- worst deviation: {DEVIATION}\n- mean batch: sequences that shared a forward")
        if parted := [each for each in self.results if not each.same]:
            parts += [f"## Where the {len(parted)} others part", _divergences(parted)]
            kinds = {each.divergence.kind if each.divergence else "-" for each in parted}
            terms = {**MARGINS, "-": "no forward that both ask for shows it"}
            parts.append("\n".join(f"- {kind}: {said}" for kind, said in terms.items() if kind in kinds))
        return "\n\n".join(parts)


def _line(setting: str, results: Sequence[Comparison]) -> list[str]:
    own = [each for each in results if each.setting == setting]
    nfe, seconds = ([sum(getattr(each, of)[i] for each in own) for i in range(2)] for of in ("nfe", "seconds"))
    return [
        setting,
        f"{sum(each.same for each in own)} of {len(own)}",
        f"{sum(each.equal_share for each in own) / len(own):.2%}",
        *(f"{total / len(own):.1f}" for total in nfe),
        *(f"{total / len(own):.3f}" for total in seconds),
        f"{seconds[0] / seconds[1]:.2f}",
        *_batched([each.batch for each in own if each.batch]),
    ]


def _batched(batches: Sequence[Batch]) -> list[str]:
    if not batches:
        return []
    size = sum(each.size for each in batches) / len(batches)
    return [f"{size:.1f}", f"{max(each.deviation for each in batches):.2g}"]


def _divergences(parted: Sequence[Comparison]) -> str:
    lines = [["setting", "prompt", "forward", "position", "kind", "margin", "noise", "tokens", "confidences"]]
    for each in parted:
        said = ["-"] * 7 if each.divergence is None else _cells(each.divergence)
        lines.append([each.setting, str(each.prompt), *said])
    return markdown(lines)


def _cells(d: Divergence) -> list[str]:
    numbers = [str(d.forward), str(d.position), d.kind, f"{d.margin:.2g}", f"{d.noise:.2g}"]
    return [*numbers, "{} / {}".format(*d.tokens), "{:.4f} / {:.4f}".format(*d.confidences)]


def describe(model: DiffusionModel) -> dict[str, Any]:
    """The model, the machine and the versions."""
    cuda = model.device.type == "cuda"
    return {
        "model": model.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(model.device) if cuda else "CPU",
        "kernels": "Triton" if cuda and available()[0] else "plain torch",
        "odb_dllm": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }

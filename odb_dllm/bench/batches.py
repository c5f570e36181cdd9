"""Generations that are under way together: what a batch gains, and where speculation stops paying."""

from collections.abc import Sequence
from dataclasses import dataclass

from odb_dllm.benchmarks import resolve
from odb_dllm.generation import Generation
from odb_dllm.models.loading import DiffusionModel
from odb_dllm.presets import get_setting
from odb_dllm.scheduler import Request, run
from odb_dllm.settings import Setting
from odb_dllm.stopping import StopRule
from odb_dllm.tensor_parallel.leader import engine_of

SHORTER = 7  # tokens by which each prompt is shorter than the last, so that sequences come apart


@dataclass(frozen=True)
class Batch:
    """As many generations as go together, each filling its canvas."""

    setting: str
    size: int
    seconds: float  # of all, sampler and scheduler included
    refresh_seconds: float
    step_seconds: float
    tokens: int
    nfe: int  # of all sequences
    refreshes: int

    @property
    def samples_per_second(self) -> float:
        return self.size / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def steps_per_second(self) -> float:
        """Steps of single sequences by the time that steps took."""
        return (self.nfe - self.refreshes) / self.step_seconds if self.step_seconds else 0.0


def measure_batch(
    model: DiffusionModel, prompt: Sequence[int], asked: str | Setting, gen_length: int, size: int
) -> Batch:
    """Run ``size`` generations of about the prompt's length together, after a warm-up."""
    setting, stop = resolve(model, get_setting(asked, gen_length=gen_length))
    stop = StopRule(patterns=(), eos=stop.eos)
    requests = [Request(prompt[index * SHORTER % max(1, len(prompt) - 1) :], setting, stop) for index in range(size)]
    clock = engine_of(model).clock
    list(run(model, requests, batch_size=size))  # kernels and graphs of all sizes that come up
    started = clock()
    made = [result for _, result in run(model, requests, batch_size=size)]
    taken = clock() - started
    done = [result for result in made if isinstance(result, Generation)]
    if len(done) < size:
        raise next(result for result in made if not isinstance(result, Generation))
    return Batch(
        setting.name,
        size,
        taken,
        sum(each.refresh_seconds for each in done),
        sum(each.step_seconds for each in done),
        sum(each.decode_length for each in done),
        sum(each.nfe for each in done),
        sum(each.refreshes for each in done),
    )

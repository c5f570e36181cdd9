"""The lm-eval adapter: requests in, texts and likelihoods out, statistics beside them.

Arguments are checked when the model is made; weights are loaded at the first request, so that lm-eval finds
out about tasks and their data before.
"""

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import lm_eval.models  # noqa: F401 (before registering: lm-eval fills an empty registry only)
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import model_registry, register_model

from odb_dllm import arguments as args
from odb_dllm import response_cache, statistics
from odb_dllm.benchmarks import resolve
from odb_dllm.data_parallel import own_device
from odb_dllm.errors import InputError
from odb_dllm.gen_kwargs import final_text, setting_of, task_values, until_of, warn_once
from odb_dllm.generation import NonFiniteLogits
from odb_dllm.likelihood import log_likelihood
from odb_dllm.model_info import model_info
from odb_dllm.models import sizes
from odb_dllm.models.config import ModelConfig
from odb_dllm.models.loading import (
    DiffusionModel,
    find_folder,
    is_hub_id,
    load_model,
    load_tokenizer,
    parse_device,
    read_config,
)
from odb_dllm.scheduler import Request, run
from odb_dllm.settings import Setting
from odb_dllm.sharded_lm import ShardedLM
from odb_dllm.stopping import StopRule
from odb_dllm.tasks.metadata import TaskFacts, attach, facts_of
from odb_dllm.tasks.shares import answered
from odb_dllm.tasks.shots import shared_tokens
from odb_dllm.tensor_parallel.group import check_machine
from odb_dllm.tensor_parallel.sharding import check_sizes
from odb_dllm.traces import make_trace
from odb_dllm.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
DEFAULT_DEVICE = "cuda:0"  # what lm-eval's command line passes where no --device was given


@dataclass(frozen=True)
class Job:
    """One generation request, read."""

    key: tuple[str | None, int | None, int, int]  # task, doc id, index, repeat
    prompt: list[int]
    until: tuple[str, ...]
    setting: Setting
    task_stop: Any  # the stop patterns that the task's YAML carries
    sequence: int  # keys its noise
    shared: int  # first tokens of the prompt that all of the task's have


class ODBDiffusionLM(ShardedLM):
    """A masked-diffusion language model under lm-eval.

    Args:
        pretrained: a folder, a hub id or ``tiny``; ``model_path`` means the same. peft: a LoRA adapter's folder.
        setting: a preset's name. Every field of ``Setting`` is an argument too and overrides it.
        family: ``llada_instruct``, ``llada_1_5`` or ``dream``; whose published thresholds apply.
        dtype, device: None takes bfloat16 on CUDA, float32 on the CPU; CUDA where there is one. Of several processes
            each takes the GPU that its local rank numbers.
        tensor_parallel: processes that share the model, each on a GPU of its own, from ``device`` on.
        batch_size, max_batch_size: generations under way at a time.
        mc_num, check_greedy: draws per likelihood, and whether it also decodes greedily.
        statistics: a JSONL file that gets one row per sample as it is finished.

    Raises:
        InputError: one sentence, before any weight is read.
    """

    current: ClassVar["ODBDiffusionLM | None"] = None  # the one made last

    def __init__(self, pretrained: str | None = None, **given: Any) -> None:
        super().__init__()
        self._given = {**({} if pretrained is None else {"pretrained": pretrained}), **given}
        self.arguments = args.parse(self._given)
        if not is_hub_id(self.arguments.pretrained):  # which is fetched when it is needed
            check_sizes(self.config, self.arguments.tensor_parallel)  # a missing folder or bad config.json is told now
        self._target = parse_device(own_device(self.arguments.device, self.processes, torch.cuda.device_count()))
        check_machine(self.arguments.tensor_parallel, self._target)
        if self._target.index is not None:  # what works on the current GPU by default is to mean this one
            torch.cuda.set_device(self._target)
        if self.arguments.device is None and self._target.type == "cpu":
            logger.warning("No CUDA device is usable: running on the CPU.")
        self.recorder = statistics.Recorder(self.arguments.statistics, self.rank)
        self._chat = False
        self._resolved: dict[Any, tuple[Setting, StopRule, Sequence[Sequence[int]]]] = {}
        self._repeats: Counter[int] = Counter()
        ODBDiffusionLM.current = self

    # Making: model arguments win over what the evaluation passes along ----------------------------

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> "ODBDiffusionLM":
        return cls.create_from_arg_obj(args.from_string(arg_string or ""), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> "ODBDiffusionLM":
        extra = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if extra.get("device") == DEFAULT_DEVICE and _device_was_defaulted():
            del extra["device"]
        return cls(**{**extra, **arg_dict})

    # What lm-eval reads ---------------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder; a hub id is downloaded."""
        return find_folder(self.arguments.pretrained)

    @cached_property
    def model(self) -> DiffusionModel:
        """The model, loaded at first use."""
        own = self.arguments
        logger.info("Loading %s on %s.", own.pretrained, self._target)
        options: dict[str, Any] = {name: getattr(own, name) for name in ("dtype", "peft", "tensor_parallel", "engine")}
        return replace(load_model(self.folder, device=self.device, **options), name=own.pretrained)

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase | None":
        return load_tokenizer(self.folder, self.arguments.add_bos_token)

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase | None":
        return self._tokenizer

    @cached_property
    def config(self) -> ModelConfig:
        """The model's sizes, by its config.json alone."""
        return sizes(read_config(self.folder))

    @property
    def max_length(self) -> int:
        """Longest prompt and response together."""
        return self.config.max_sequence_length

    @property
    def device(self) -> torch.device:
        return self._target

    @property
    def dtype(self) -> str:
        return self.arguments.dtype or ("bfloat16" if self._target.type == "cuda" else "float32")

    @property
    def batch_size(self) -> int:
        return self.arguments.batch_size

    @property
    def eot_token_id(self) -> int:
        return int(self.model.ids.eos)

    @property
    def prefix_token_id(self) -> int:
        """Stands for an empty context: BOS, with which the model's training documents begin, else EOS."""
        bos = self.text_tokenizer().bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return self.arguments.pretrained.replace("/", "__")

    def text_tokenizer(self) -> "PreTrainedTokenizerBase":
        if self._tokenizer is None:
            raise InputError(f"{self.arguments.pretrained} has no tokenizer, and lm-eval's tasks are text.")
        return self._tokenizer

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special ones are added as the tokenizer does, never to a text that begins with BOS."""
        tokenizer = self.text_tokenizer()
        if add_special_tokens is None:
            add_special_tokens = not (tokenizer.bos_token and string.startswith(str(tokenizer.bos_token)))
        return list(tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the model's own template writes it."""
        self.chat_template(True)
        self._chat = True
        try:
            return str(
                self.text_tokenizer().apply_chat_template(
                    chat_history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )
        except Exception as error:  # jinja's errors, which templates raise for roles that they do not know
            raise InputError(f"The chat template refused a conversation: {error}") from error

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        if chat_template in (False, None):
            return None
        if self.text_tokenizer().chat_template is None:
            raise InputError(f"{self.arguments.pretrained} has no chat template: leave out --apply_chat_template.")
        return super().chat_template(chat_template)

    # Generation -----------------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts in the order of the requests, cut at their ``until`` strings, without special tokens.

        A sample that fails has an empty text and is reported. Text after an EOS is kept, as in the published
        evaluation: only ``until`` cuts.
        """
        return answered(requests, partial(self._generate, disable_tqdm=disable_tqdm))

    def _generate(self, requests: list[Instance], disable_tqdm: bool) -> list[str]:
        self._repeats.clear()
        jobs = [self._job(request) for request in requests]
        self._check_lengths(jobs)
        resolved = [self._resolve(job) for job in jobs]
        pending = [
            Request(job.prompt, setting, stop, job.sequence, job.shared)
            for job, (setting, stop, _) in zip(jobs, resolved, strict=True)
        ]
        texts = [""] * len(requests)
        with self.progress("Generating", len(jobs), disable_tqdm) as progress:
            for index, generation in self.recorder.timed(run(self.model, pending, batch_size=self.batch_size)):
                if isinstance(generation, NonFiniteLogits):
                    progress.update()
                    self.recorder.fail(statistics.Failure(*jobs[index].key, error=str(generation)))
                    response_cache.forget(self.cache_hook.dbdict, "generate_until", requests[index].args)
                    continue
                texts[index], length = final_text(self.text_tokenizer(), generation.tokens, jobs[index].until)
                row = statistics.make_row(
                    jobs[index].key,
                    generation,
                    prompt_tokens=len(jobs[index].prompt),
                    text_tokens=length,
                    patterns=resolved[index][2],
                    eos=resolved[index][1].eos,
                )
                self.recorder.add(row, make_trace(jobs[index].key, generation, prompt_tokens=row.prompt_tokens))
                self.cache_hook.add_partial("generate_until", requests[index].args, texts[index])
                progress.update(row.tokens, row.nfe)
        return texts

    def _job(self, request: Instance) -> Job:
        prompt, gen = request.args[0], dict(request.args[1])
        facts = facts_of(request) or TaskFacts(chat=self._chat)
        repeat = self._repeats[id(request)]
        self._repeats[id(request)] += 1
        encode = partial(self.tok_encode, add_special_tokens=False if facts.chat else None)
        ids, shares = encode(prompt), self.arguments.setting.prefix == "shared"
        shared = shared_tokens(request, facts.task, ids, encode) if shares else 0
        if shares and not shared:
            name = request.task_name
            warn_once(f"The prompts of {name} have no fixed examples in common: prefix=shared is left out.")
        return Job(
            key=(request.task_name, request.doc_id, request.idx, repeat),
            prompt=ids,
            until=until_of(gen),
            setting=setting_of(self.arguments, gen, facts.metadata, end_of_turn=facts.chat),
            task_stop=task_values(facts.metadata).get("stop"),
            sequence=_hash(request.task_name, prompt, request.idx, repeat),
            shared=shared,
        )

    def _check_lengths(self, jobs: Sequence[Job]) -> None:
        """Refuse what does not fit before the weights are loaded."""
        for job in jobs:
            if len(job.prompt) + job.setting.gen_length > self.max_length:
                raise InputError(
                    f"Document {job.key[1]} of {job.key[0]}: its prompt of {len(job.prompt)} tokens and "
                    f"gen_length {job.setting.gen_length} exceed the model's maximum of {self.max_length}."
                )

    def _resolve(self, job: Job) -> tuple[Setting, StopRule, Sequence[Sequence[int]]]:
        """The setting and stop rule of a job, and the patterns that end an answer for the statistics.

        The latter are the task's even where a preset stops at EOS alone, so that settings are compared alike.
        """
        key = (job.key[0], job.until, job.setting)
        if key not in self._resolved:
            by_task = partial(resolve, self.model, task=job.key[0], family=self.arguments.family, until=job.until)
            setting, stop = by_task(job.setting)
            patterns = stop.patterns
            if job.setting.stop == self.arguments.setting.stop == "eos" and "stop" not in self.arguments.explicit:
                patterns = by_task(replace(job.setting, stop=job.task_stop))[1].patterns
            self._resolved[key] = (setting, stop, patterns)
        return self._resolved[key]

    # Likelihood -----------------------------------------------------------------------------------

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        """Monte-Carlo estimates: log-likelihood of each continuation, and whether greedy decoding gives it.

        One that fails is minus infinity and is reported.
        """
        if self.arguments.setting.cfg_scale > 0:
            raise InputError("cfg_scale guides generation alone: leave it out for tasks that ask for likelihoods.")
        for (_, text), context, continuation in requests:
            if len(context) + len(continuation) > self.max_length:
                raise InputError(
                    f"A context of {len(context)} tokens and its continuation {text[:40]!r} of "
                    f"{len(continuation)} exceed the model's maximum of {self.max_length} tokens."
                )
        results = []
        with self.progress("Likelihoods", len(requests), disable_tqdm) as progress:
            for index, (strings, context, continuation) in enumerate(requests):
                results.append(self._likelihood(index, context, continuation))
                self.cache_hook.add_partial("loglikelihood", strings, results[-1])
                progress.update()
        return results

    def _likelihood(self, index: int, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        if not continuation:
            return 0.0, True
        draws, seed, greedy = self.arguments.mc_num, self.arguments.setting.seed, self.arguments.check_greedy
        try:
            return log_likelihood(self.model, context, continuation, mc_num=draws, seed=seed, check_greedy=greedy)
        except NonFiniteLogits as error:
            self.recorder.fail(statistics.Failure(None, None, index, 0, f"Likelihood {index}: {error}"))
            return float("-inf"), False

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise InputError(
            "Rolling likelihood (perplexity tasks) needs a next-token distribution, which a masked-diffusion "
            "model has not: it only estimates the likelihood of a continuation as a whole."
        )

    # Caching and results --------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """A hash of all that decides a text besides the request."""
        return args.fingerprint(
            self.arguments,
            device=self._target.type,
            dtype=self.dtype,
            digest=args.folder_digest(self.folder),
            version=__version__,
        )

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Take a response cache, unless it was filled under another configuration."""
        super().set_cache_hook(cache_hook)
        stored = cache_hook.dbdict
        if stored is None:
            return
        if self.arguments.setting.temperature > 0:
            raise InputError(
                "A response cache cannot hold drawn texts: leave out --use_cache, or give the temperature by "
                "--gen_kwargs do_sample=True,temperature=..., which lm-eval does not cache."
            )
        response_cache.admit(stored, self.fingerprint(), self)

    def get_model_info(self) -> dict[str, Any]:
        """What goes into ``config`` of lm-eval's results."""
        return model_info(self, self._given)


def _device_was_defaulted() -> bool:
    """Whether ``cuda:0`` is lm-eval's own choice: its command line runs, and nobody wrote --device."""
    return "lm_eval._cli.run" in sys.modules and not any(word.startswith("--device") for word in sys.argv)


def _hash(*parts: Any) -> int:
    """63 bits that depend on ``parts`` alone: the same in every process, order and batch."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


if "odb_dllm" not in model_registry:  # where an entry point names it already, that stands
    register_model("odb_dllm")(ODBDiffusionLM)
attach(response_cache.key_by_task)

"""Train the embedded checkpoint: a LLaDA of about 8 million parameters, on five miniature benchmarks.

    python -m odb_dllm.tiny.training.train --out runs/tiny --leg-minutes 9
    python -m odb_dllm.tiny.training.train --out runs/tiny --leg-minutes 9 --resume

Writes ``OUT/state.pt`` (to resume from), ``OUT/log.jsonl`` and, after the last step, ``OUT/model/``: a checkpoint
folder in the published format, with its model card. A leg that ends earlier is gone on with by ``--resume``.
The run is determined by its seed, up to the order of GPU reductions, however it is cut into legs.
"""

import argparse
import copy
import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from odb_dllm.models.llada import LLaDA, LLaDAConfig
from odb_dllm.models.loading import DiffusionModel, TokenIds, load_tokenizer
from odb_dllm.tiny.problems import MINIATURES, distinct, problems
from odb_dllm.tiny.training.batches import Batch, Batches, Encoder, loader
from odb_dllm.tiny.training.card import write_card
from odb_dllm.tiny.training.initial import initialise
from odb_dllm.tiny.training.measure import Score, measure
from odb_dllm.tiny.training.muon import Muon

MODEL = Path(__file__).parents[1] / "model"
EMA_EVERY = 4
EAGER_UPDATES = 3  # of each row length, which compile it and allocate the optimizers' state
VALIDATION_SEED = 30_001
MEASURED = ("llada_baseline", "jump-share")  # for the model card


@dataclass(frozen=True)
class Options:
    """Everything that determines a run."""

    out: Path
    steps: int = 37_000
    leg_minutes: float = math.inf  # stop after so long, to be resumed
    seed: int = 1
    muon_lr: float = 0.004  # of the blocks' matrices
    adam_lr: float = 2e-3  # of everything else
    warmup: int = 300
    weight_decay: float = 0.01  # of the blocks' matrices
    ema: float = 0.995  # per update, one in EMA_EVERY steps
    tokens: int = 65_536  # per step
    width: int = 256
    heads: int = 8
    layers: int = 12
    hidden: int = 432
    workers: int = max(0, (os.cpu_count() or 1) - 2)
    validate_every: int = 4000
    log_every: int = 100
    problems: int = 128  # held-out ones of each task that are measured
    tokenizer: Path = MODEL
    resume: bool = False


def published_config(options: Options, encoder: Encoder) -> dict[str, Any]:
    """config.json, with the keys of the published LLaDA checkpoints."""
    entries = encoder.tokenizer.get_vocab_size()
    return {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "d_model": options.width,
        "n_heads": options.heads,
        "n_kv_heads": options.heads,
        "n_layers": options.layers,
        "mlp_hidden_size": options.hidden,
        "mlp_ratio": 4,
        "vocab_size": entries,
        "embedding_size": entries,
        "max_sequence_length": 8192,
        "rope": True,
        "rope_theta": 500000.0,
        "rope_full_precision": True,
        "alibi": False,
        "rms_norm_eps": 1e-5,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "bias_for_layer_norm": False,
        "attention_layer_norm": False,
        "activation_type": "silu",
        "block_type": "llama",
        "block_group_size": 1,
        "include_bias": False,
        "include_qkv_bias": False,
        "weight_tying": False,
        "scale_logits": False,
        "input_emb_norm": False,
        "multi_query_attention": None,
        "flash_attention": False,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mask_token_id": encoder.mask,
        "eos_token_id": encoder.eos,
        "pad_token_id": encoder.eos,
        "init_device": "cpu",
        "init_fn": "normal",
        "init_std": 0.04,
        "precision": "amp_bf16",
        "torch_dtype": "bfloat16",
        "use_cache": False,
    }


def make_optimizers(model: LLaDA, options: Options) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embedding, head and norms."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "blocks" in n]
    others = [p for n, p in named if not (p.ndim == 2 and "blocks" in n)]
    graphed = matrices[0].is_cuda

    def rate(lr: float) -> Any:  # a captured graph reads it from the device
        return torch.tensor(lr, device=matrices[0].device) if graphed else lr

    return [
        Muon(matrices, rate(options.muon_lr), weight_decay=options.weight_decay),
        torch.optim.AdamW(
            others, lr=rate(options.adam_lr), betas=(0.9, 0.98), weight_decay=0.0, fused=graphed, capturable=graphed
        ),
    ]


def masked_loss(hidden: Tensor, head: Tensor, where: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """LLaDA's loss: cross-entropy at the masked positions, weighted by 1/t (`weight` holds the normalisation)."""
    logits = F.linear(hidden.flatten(0, 1).index_select(0, where), head)
    return (F.cross_entropy(logits.float(), target, reduction="none") * weight).sum()


class Graphed:
    """An update of one row length as a CUDA graph: hundreds of small kernels, launched as one."""

    def __init__(self, trainer: "Trainer", batch: Batch) -> None:
        self.batch = batch
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
            self.loss = trainer.optimise(batch)

    def replay(self, batch: Batch) -> Tensor:
        self.batch.copy_(batch)
        self.graph.replay()
        return self.loss.clone()


class Trainer:
    """The state of a run, and its steps."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream())  # the default one cannot be captured
        self.encoder = Encoder(Tokenizer.from_file(str(options.tokenizer / "tokenizer.json")))
        self.config = published_config(options, self.encoder)
        self.model = LLaDA(LLaDAConfig.from_dict(self.config))
        initialise(self.model, self.config["init_std"], options.seed)
        self.model.to(self.device)
        self.average = copy.deepcopy(self.model)
        self.optimizers = make_optimizers(self.model, options)
        self.peaks = [float(group["lr"]) for group in self.groups()]
        self.graphs: dict[int, Graphed] = {}  # by row length
        self.eager: dict[int, int] = {}  # updates so far, by row length
        self.step, self.spent = 0, 0.0  # seconds of earlier legs
        self.began = time.monotonic()
        options.out.mkdir(parents=True, exist_ok=True)
        if options.resume:
            self.load()
        self.loss = masked_loss
        if self.device.type == "cuda":
            torch._dynamo.config.recompile_limit = 64  # a compiled block per row length
            self.loss = torch.compile(masked_loss, dynamic=False)
            for block in self.model.parts["blocks"]:
                block.compile(dynamic=False)

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.began

    def rate(self) -> float:
        """The learning rate as a share of its peak: a warm-up, then straight to zero at the last step."""
        return min(1.0, (self.step + 1) / self.options.warmup) * max(0.0, 1 - self.step / self.options.steps)

    def groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def update(self, batch: Batch) -> Tensor:
        """One step; returns the loss. On a GPU, updates of one row length are captured in a CUDA graph."""
        for group, peak in zip(self.groups(), self.peaks, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(peak * self.rate())
            else:
                group["lr"] = peak * self.rate()
        length = batch.tokens.shape[1]
        count = self.eager[length] = self.eager.get(length, 0) + 1
        if self.device.type == "cuda" and count > EAGER_UPDATES:
            if length not in self.graphs:
                self.graphs[length] = Graphed(self, batch.to(self.device))
            loss = self.graphs[length].replay(batch)
        else:
            loss = self.optimise(batch.to(self.device))
        self.step += 1
        if self.step % EMA_EVERY == 0:
            averages: list[Tensor] = list(self.average.parameters())
            weights: list[Tensor] = list(self.model.parameters())
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1 - self.options.ema)
        return loss

    def optimise(self, batch: Batch) -> Tensor:
        """Loss, gradients and an update of the weights, without anything that waits for the GPU."""
        tokens = batch.tokens.long()
        positions = torch.arange(tokens.shape[1], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.model(tokens, positions)
            head = self.model.parts["ff_out"].weight
            loss = self.loss(hidden, head, batch.where, batch.target, batch.weight)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()

    def run(self, until: int | None = None) -> None:
        """Train to the last step (or to step `until`), or to the end of the leg."""
        o = self.options
        data = Batches(o.tokenizer / "tokenizer.json", o.seed, o.steps, o.tokens, self.step)
        recent, rows, since = torch.zeros((), device=self.device), 0, time.monotonic()
        for batch in loader(data, o.workers):
            recent += self.update(batch)
            rows += len(batch.tokens)
            if self.step % o.log_every == 0 or self.step == o.steps:
                loss, now = recent.item() / o.log_every, time.monotonic()
                self.log(step=self.step, loss=round(loss, 4), rate=self.rate(), rows_per_second=rows // (now - since))
                recent.zero_()
                rows, since = 0, now
            if self.step % o.validate_every == 0 and self.step < o.steps:
                self.validate(["jump-share"])
            if self.step == until or self.seconds - self.spent >= 60 * o.leg_minutes:
                break
        self.save()

    def log(self, **entry: Any) -> None:
        line = json.dumps({"minutes": round(self.seconds / 60, 2), **entry})
        print(line, flush=True)
        with open(self.options.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rounded(self) -> DiffusionModel:
        """The averaged weights rounded to bfloat16, ready to generate."""
        network = LLaDA(LLaDAConfig.from_dict(self.config)).to(self.device)
        network.load_state_dict(self.average.state_dict())
        entries = self.config["vocab_size"]
        return DiffusionModel(
            name="tiny",
            path=self.options.out,
            network=network.to(torch.bfloat16).eval(),
            config=self.config,
            device=self.device,
            dtype=torch.bfloat16,
            tokenizer=load_tokenizer(self.options.tokenizer),
            ids=TokenIds(self.encoder.mask, self.encoder.eos, self.encoder.turn_end),
            vocab_size=entries,
            predictable=entries,
            max_length=self.config["max_sequence_length"],
            engine="plain",  # which shares no CUDA graphs with the training
        )

    def validate(self, settings: list[str]) -> list[Score]:
        """Measure and log settings on held-out problems that do not ship."""
        count, scores, model = self.options.problems, [], self.rounded()
        chosen = {task: distinct(problems(task, VALIDATION_SEED, "test"), count) for task in MINIATURES}
        for setting in settings:
            for score in measure(model, chosen, setting):
                scores.append(score)
                self.log(step=self.step, **asdict(score))
        return scores

    def save(self) -> None:
        state = {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict()}
        state |= {"average": self.average.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers]}
        torch.save(state, self.options.out / "state.tmp")
        os.replace(self.options.out / "state.tmp", self.options.out / "state.pt")

    def load(self) -> None:
        state = torch.load(self.options.out / "state.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.spent = state["step"], state["seconds"]

    def export(self) -> None:
        """Write the checkpoint folder: weights, config, tokenizer and model card."""
        folder = self.options.out / "model"
        folder.mkdir(exist_ok=True)
        weights = {k: v.contiguous().cpu() for k, v in self.rounded().network.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(self.options.tokenizer / name, folder / name)
        facts = {
            "parameters": sum(v.numel() for v in weights.values()),
            "steps": self.step,
            "tokens": self.step * self.options.tokens,
            "minutes": self.seconds / 60,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU",
        }
        write_card(folder / "README.md", self.config, facts, [])
        write_card(folder / "README.md", self.config, facts, self.validate(list(MEASURED)))


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in asdict(Options(Path())).items():
        flag = "--" + name.replace("_", "-")
        if name == "resume":
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(default), default=default, required=name == "out")
    return Options(**vars(parser.parse_args()))


def main() -> None:
    trainer = Trainer(parse())
    trainer.run()
    if trainer.step == trainer.options.steps:
        trainer.export()
    else:
        print(f"stopped at step {trainer.step} of {trainer.options.steps}: go on with --resume", flush=True)


if __name__ == "__main__":
    main()

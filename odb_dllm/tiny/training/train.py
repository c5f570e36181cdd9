"""Train the embedded checkpoint: a LLaDA of about 7 million parameters, on arithmetic word problems.

    python -m odb_dllm.tiny.train --out runs/tiny --minutes 8
    python -m odb_dllm.tiny.train --out runs/tiny --minutes 8 --resume

Writes `OUT/state.pt` (to resume from), `OUT/log.jsonl` and `OUT/model/`, a checkpoint folder in the published format.
The run is determined by its seed, up to the order of GPU reductions, as long as the budget of minutes does not cut it
short: the learning rate then falls to zero at the end of the budget instead of the last step.
"""

import argparse
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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from odb_dllm.models.llada import LLaDA, LLaDAConfig
from odb_dllm.tiny.batches import Batch, Batches, Encoder, loader
from odb_dllm.tiny.card import Figure, write_card
from odb_dllm.tiny.decode import measure
from odb_dllm.tiny.problems import heldout, shots

MODEL = Path(__file__).parent / "model"
EMA_EVERY = 4
SHIPPED, FURTHER, VALIDATION = 200, 1000, 256  # held-out problems, in this order


@dataclass(frozen=True)
class Options:
    """Everything that determines a run."""

    out: Path
    steps: int = 12_500
    minutes: float = math.inf
    seed: int = 0
    lr: float = 1.5e-3
    warmup: int = 500
    weight_decay: float = 0.1
    ema: float = 0.998  # per update, one in EMA_EVERY steps
    tokens: int = 65_536  # per step
    width: int = 224
    heads: int = 7
    layers: int = 12
    hidden: int = 384
    workers: int = max(0, (os.cpu_count() or 1) - 3)
    validate_every: int = 1250
    log_every: int = 100
    problems: int = FURTHER  # at most this many of each set of held-out problems are measured
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


def initialise(model: LLaDA, std: float, seed: int) -> None:
    """Normal weights; those that write to the residual stream are scaled down by its depth."""
    generator = torch.Generator().manual_seed(seed)
    depth = len(model.parts["blocks"])
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            writes = "blocks" in name and ("attn_out" in name or "ff_out" in name)
            nn.init.normal_(weight, std=std / math.sqrt(2 * depth) if writes else std, generator=generator)


def make_optimizer(model: LLaDA, options: Options) -> torch.optim.AdamW:
    """AdamW; weight decay on the matrices of the blocks alone."""
    decayed = [p for n, p in model.named_parameters() if p.ndim == 2 and "blocks" in n]
    plain = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "blocks" in n)]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), fused=torch.cuda.is_available())


def masked_loss(hidden: Tensor, head: Tensor, where: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """LLaDA's loss: cross-entropy at the masked positions, weighted by 1/t (`weight` holds the normalisation)."""
    logits = F.linear(hidden.flatten(0, 1).index_select(0, where), head)
    return (F.cross_entropy(logits.float(), target, reduction="none") * weight).sum()


class Trainer:
    """The state of a run, and its steps."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder = Encoder(Tokenizer.from_file(str(options.tokenizer / "tokenizer.json")))
        self.config = published_config(options, self.encoder)
        self.model = LLaDA(LLaDAConfig.from_dict(self.config))
        initialise(self.model, self.config["init_std"], options.seed)
        self.model.to(self.device)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.ema))
        self.optimizer = make_optimizer(self.model, options)
        self.heldout = heldout(SHIPPED + FURTHER + VALIDATION)
        self.step, self.spent = 0, 0.0  # seconds of earlier parts of a resumed run
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
        """The learning rate: a warm-up, then straight to zero at the last step or the end of the budget."""
        done = max(self.step / self.options.steps, self.seconds / (60 * self.options.minutes))
        return self.options.lr * min(1.0, (self.step + 1) / self.options.warmup) * max(0.0, 1 - done)

    def update(self, batch: Batch) -> Tensor:
        """One step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        batch = batch.to(self.device)
        tokens = batch.tokens.long()
        positions = torch.arange(tokens.shape[1], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.model(tokens, positions)
            head = self.model.parts["ff_out"].weight
            loss = self.loss(hidden, head, batch.where, batch.target, batch.weight)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step % EMA_EVERY == 0:
            self.average.update_parameters(self.model)
        return loss.detach()

    def run(self, until: int | None = None) -> None:
        """Train to the last step (or to step `until`), or to the end of the budget."""
        o = self.options
        data = Batches(o.tokenizer / "tokenizer.json", o.seed, until or o.steps, o.tokens, self.step)
        recent, rows, since = torch.zeros((), device=self.device), 0, time.monotonic()
        for batch in loader(data, o.workers, self.device.type == "cuda"):
            recent += self.update(batch)
            rows += len(batch.tokens)
            if self.step % o.log_every == 0 or self.step == o.steps:
                loss, now = recent.item() / o.log_every, time.monotonic()
                self.log(step=self.step, loss=round(loss, 4), lr=self.rate(), rows_per_second=rows // (now - since))
                recent.zero_()
                rows, since = 0, now
            if self.step % o.validate_every == 0:
                self.validate()
                self.save()
            if self.seconds >= 60 * o.minutes:
                break
        self.save()

    def log(self, **entry: Any) -> None:
        line = json.dumps({"minutes": round(self.seconds / 60, 2), **entry})
        print(line, flush=True)
        with open(self.options.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rounded(self, source: nn.Module, dtype: torch.dtype = torch.bfloat16) -> LLaDA:
        """A plain model with the weights of `source` rounded to bfloat16, computing in `dtype`."""
        model = LLaDA(LLaDAConfig.from_dict(self.config)).to(self.device)
        model.load_state_dict(source.state_dict())
        return model.to(torch.bfloat16).to(dtype).eval()

    def validate(self) -> None:
        """Log the accuracy on held-out problems that the final figures do not use."""
        problems = self.heldout[SHIPPED + FURTHER :][: self.options.problems]
        score = measure(self.rounded(self.average.module), self.encoder, problems, [], threshold=0.9)
        self.log(step=self.step, validation=asdict(score))

    def save(self) -> None:
        state = {"step": self.step, "seconds": self.seconds, "model": self.model.state_dict()}
        state |= {"average": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, self.options.out / "state.tmp")
        os.replace(self.options.out / "state.tmp", self.options.out / "state.pt")

    def load(self) -> None:
        state = torch.load(self.options.out / "state.pt", map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent = state["step"], state["seconds"]

    def figures(self) -> list[Figure]:
        """Measure the averaged weights, rounded to bfloat16, on held-out problems."""
        most = self.options.problems
        sets = {
            "shipped": self.heldout[:SHIPPED][:most],
            "further": self.heldout[SHIPPED:][: min(most, FURTHER)],
        }
        cases = [(torch.bfloat16, count, 256) for count in (0, 1, 2)]
        cases += [(torch.float32, 0, 256), (torch.bfloat16, 0, 1024)]
        found = []
        for dtype, count, length in cases:
            model = self.rounded(self.average.module, dtype)
            for name, problems in sets.items():
                for decoder, threshold in (("one token per forward", 2.0), ("threshold 0.9", 0.9)):
                    if length > 256 and (name, threshold) == ("further", 2.0):
                        continue  # long canvases one token at a time: the shipped problems suffice
                    score = measure(model, self.encoder, problems, shots(count), length, threshold)
                    kind = str(dtype).removeprefix("torch.")
                    found.append(Figure(name, len(problems), count, length, decoder, kind, score))
                    self.log(**asdict(found[-1]))
        return found

    def export(self) -> None:
        """Write the checkpoint folder: weights, config, tokenizer and model card."""
        folder = self.options.out / "model"
        folder.mkdir(exist_ok=True)
        weights = {k: v.contiguous().cpu() for k, v in self.rounded(self.average.module).state_dict().items()}
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
        write_card(folder / "README.md", self.config, facts, self.figures())


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
    trainer.export()


if __name__ == "__main__":
    main()

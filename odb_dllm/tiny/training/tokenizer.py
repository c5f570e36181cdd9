"""Train the embedded model's tokenizer: byte-level BPE of 2,048 entries, digits single, with LLaDA's special tokens.

    python -m odb_dllm.tiny.training.tokenizer --corpus FOLDER [FOLDER ...] --out odb_dllm/tiny/model

The folders hold general English and Python (.txt, .md, .rst, .html, .py, .pod; gzipped or plain), so that any text is
encoded well enough; the problems of the miniature benchmarks are added, so that their words are single tokens.
"""

import argparse
import gzip
import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from odb_dllm.tiny.problems import MINIATURES, problems

ENTRIES = 2048
BOS, EOS, MASK = "<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"
START_HEADER, END_HEADER, END_OF_TURN = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
SPECIAL = [BOS, EOS, MASK, START_HEADER, END_HEADER, END_OF_TURN, "[CLS]", "[gMASK]"]
WHOLE = ["[DONE"]  # what mbpp's answers end with begins with one token, as in LLaDA's tokenizer
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SUFFIXES = {".txt", ".md", ".rst", ".html", ".py", ".pod"}


def read(path: Path, limit: int) -> str:
    """The text of a file, at most `limit` characters; markup of HTML removed; empty where it is not UTF-8 text."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read(limit)
    text = raw.decode("utf-8", errors="ignore")
    if "\0" in text:
        return ""
    return html.unescape(re.sub(r"<[^>]*>", "", text)) if path.suffix == ".html" else text


def corpus(folders: list[Path], characters: int, seed: int = 0) -> Iterator[str]:
    """Texts from every folder in turn, up to an equal share of `characters` each, in an order fixed by the seed."""
    rng = random.Random(seed)
    for folder in folders:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and SUFFIXES & {*p.suffixes})
        rng.shuffle(files)
        left = characters // len(folders)
        for path in files:
            text = read(path, min(left, 60_000))
            left -= len(text)
            yield text
            if left <= 0:
                break


def problem_texts(count: int) -> Iterator[str]:
    """Problems of the training side, in the proportions in which they are trained on."""
    shares = sum(each.share for each in MINIATURES.values())
    for task, miniature in MINIATURES.items():
        source = problems(task, "tokenizer", "train")
        for _ in range(int(count * miniature.share / shares)):
            problem = next(source)
            yield problem.prompt + problem.answer


def train(texts: Iterator[str], entries: int = ENTRIES) -> Tokenizer:
    """Byte-level BPE with the special tokens first, and words that are never cut up last.

    Every byte is in the alphabet, so any text can be encoded.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries - len(WHOLE),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in WHOLE])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, longest: int = 8192) -> None:
    """Write the files that ``PreTrainedTokenizerFast.from_pretrained`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "mask_token": MASK,
        "cls_token": "[CLS]",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": longest,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="folders of English and Python text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--characters", type=int, default=3_000_000, help="of the folders, in all")
    parser.add_argument("--problems", type=int, default=100_000, help="problems added to the text")
    args = parser.parse_args()
    texts = [*corpus(args.corpus, args.characters), *problem_texts(args.problems)]
    save(train(iter(texts)), args.out)


if __name__ == "__main__":
    main()

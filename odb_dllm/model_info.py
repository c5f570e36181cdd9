"""What is said of a run: the ``config`` of lm-eval's results file, and the table of its speed."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import lm_eval
import torch
import transformers

from odb_dllm.arguments import folder_digest
from odb_dllm.counting import Shape
from odb_dllm.prefixes import Spent
from odb_dllm.settings import Setting
from odb_dllm.statistics import UNFINISHED, table
from odb_dllm.version import __version__

if TYPE_CHECKING:
    from odb_dllm.lm_eval_model import ODBDiffusionLM


def model_info(lm: "ODBDiffusionLM", given: Mapping[str, Any]) -> dict[str, Any]:
    """Setting, machine, versions, speeds and failures of ``lm``, as ``get_model_info`` returns them.

    Args:
        lm: the model, after it has answered.
        given: its arguments as lm-eval passed them.
    """
    values = {f.name: getattr(lm.arguments.setting, f.name) for f in fields(Setting)}
    info = {
        "model": lm.arguments.pretrained,
        "family": lm.arguments.family,
        "setting": {k: getattr(v, "__name__", v) if callable(v) else v for k, v in values.items()},
        "dtype": lm.dtype,
        "device": lm.device_name(),
        "tensor_parallel": lm.arguments.tensor_parallel,
        "batch_size": lm.batch_size,
        "engine": lm.arguments.engine,
        "capture_seconds": lm.model.capture_seconds if "model" in lm.__dict__ else 0.0,
        "prefixes": asdict(_spent(lm)),
        "shape": asdict(Shape.of(lm.config)),
        "weights": folder_digest(lm.folder),
        "versions": {
            "odb_dllm": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "lm_eval": getattr(lm_eval, "__version__", None),
        },
        **lm.speeds(),
    }
    path = lm.arguments.statistics
    if path is None or not path.name.startswith(UNFINISHED):
        return {"odb_dllm": info}
    # The file is renamed when the run has ended: its name would point nowhere.
    kept = {key: value for key, value in given.items() if key != "statistics"}
    return {"model_args": kept, "odb_dllm": {"run": path.stem.removeprefix(UNFINISHED), **info}}


def _spent(lm: "ODBDiffusionLM") -> Spent:
    """What prefixes that documents share have cost this process."""
    return lm.model.spent if "model" in lm.__dict__ else Spent()


def print_speed(lm: "ODBDiffusionLM | None", *, cached: bool) -> None:
    """Print the table of a run's speed; ``cached``: responses of earlier runs were used."""
    if lm is None:
        return
    totals = lm.recorder.totals()
    if not totals.samples:
        if cached and not lm.recorder.failures:
            print("\nNo speed: nothing was generated in this run, as all generated responses came from the cache.")
        return
    by_task = lm.recorder.by_task()
    several = {"all": totals} if len(by_task) > 1 else {}
    device = lm.device if lm.world_size == 1 else f"{lm.world_size} x {lm.device.type}"
    print(f"\n{lm.arguments.setting.name} ({lm.arguments.pretrained}, {lm.dtype} on {device}, batch {lm.batch_size})")
    print(table({**by_task, **several}))
    print("tokens/s: tokens before the first EOS or stop pattern / wall seconds; means are per sample")
    if (spent := _spent(lm)).forwards:
        once = f"{spent.forwards} of {spent.tokens} tokens in {spent.seconds:.2f} s"
        print(f"Forwards over shared prefixes, in the wall seconds alone: {once}")
    if lm.world_size > 1:
        print(f"Together; and each of the {lm.world_size} processes, over its own wall time:")
        print(table(lm.by_process(), "Process"))

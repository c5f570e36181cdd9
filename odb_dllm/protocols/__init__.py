"""The papers' evaluation protocols: what each of their tables fixed, and the tasks that lm-eval lacks for them."""

from odb_dllm.protocols.protocol import (
    ODB_DLLM,
    Column,
    Protocol,
    ProtocolTask,
    all_protocols,
    get_protocol,
    is_published,
    listing,
    papers,
    prompt_hash,
)

__all__ = [
    "ODB_DLLM",
    "Column",
    "Protocol",
    "ProtocolTask",
    "all_protocols",
    "get_protocol",
    "is_published",
    "listing",
    "papers",
    "prompt_hash",
]

"""``python -m odb_dllm.tiny.problems``: write the data of all tasks again."""

from odb_dllm.tiny.problems import write

write()

"""Measuring forwards and whole generations against what the machine can do at best."""

from odb_dllm.bench.command import add_arguments, main, run

__all__ = ["add_arguments", "main", "run"]

"""Runs Python that a model wrote, and tells whether it ran to its end.

Linux, standard library alone. Each program gets processes, a folder and limits of its own and shares nothing
with the caller: no environment, no file descriptors, no output. What confines it is a set of layers, of which
the strongest that the machine allows are used; :func:`capabilities` and :func:`describe` say which, and what
is missing for which reason. A layer once chosen is never skipped: a sample that could not be confined as
announced raises :class:`SandboxError` and is not run.

What ``passed`` means: the interpreter reached the end of the program and no statement raised, tests included,
as in the reference scorer of HumanEval. The proof is a random token of 32 bytes that the program cannot name
through frames, modules, closures, descriptors or the garbage collector (see ``inside/runner.py``). So printing,
exiting early, writing to every descriptor or replacing builtins does not pass. Four things are not promised:

- a program may still satisfy tests in ways that Python allows, such as objects equal to everything or a thread
  that replaces the test's function; the reference scorer counts those too;
- a program that breaks the interpreter's own memory safety (crafted bytecode, a bug of CPython) can read the
  token, and so score for itself; it remains confined, and no other sample is touched;
- on Python 3.13 and later, a signal handler may change the variables of the hook that guards the token, and so
  score for itself as well;
- on machines where the description says OPEN, or names a missing layer, that much less is kept in.

A program finds the standard library and nothing else, whatever is installed: extension modules such as numpy's
could read the token. It may not fork unless its limits say so, and reading standard input raises.
"""

from odb_dllm.sandbox.layers import capabilities, describe
from odb_dllm.sandbox.running import Limits, Outcome, SandboxError, run, run_many

__all__ = ["Limits", "Outcome", "SandboxError", "capabilities", "describe", "run", "run_many"]

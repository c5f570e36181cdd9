"""``python -m odb_dllm`` is the ``odb-dllm`` command."""

import sys

from odb_dllm.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""How fast and how exact the kernels are on this GPU: ``python -m odb_dllm.kernels.measure``."""

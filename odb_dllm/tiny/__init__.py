"""The embedded checkpoint (`model/`), its miniature benchmarks (`tasks/`) and the scripts that made them."""

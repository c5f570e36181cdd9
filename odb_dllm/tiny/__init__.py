"""The embedded checkpoint (`model/`), its miniature benchmark (`tasks/`) and the scripts that made them."""

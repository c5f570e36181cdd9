"""How the embedded checkpoint was trained; nothing that a user imports."""

"""How fast, how much memory."""

"""Two runs side by side: reading them, what a difference is worth, and the text of it."""

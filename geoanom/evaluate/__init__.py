"""How good scores are where the truth is known: figures, truths of several kinds, and what brings both to the same places."""

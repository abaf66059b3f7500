"""Watching places over time: what each one looked like, what became of it, and who is told."""

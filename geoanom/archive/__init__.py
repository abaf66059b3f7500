"""Archives: which scenes there are, what became of each, and who works on them."""

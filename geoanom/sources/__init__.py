"""Openers of scenes, one file each."""

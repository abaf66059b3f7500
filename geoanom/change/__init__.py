"""What became different between two dates of a place."""

"""The command line: parsing, and one call into the library for each command."""

"""One self-contained page that shows a layer: a map, a list to review, reasons, and where everything comes from."""

"""From scores to maps: score maps, outlines, reasons, and one file per exporter."""

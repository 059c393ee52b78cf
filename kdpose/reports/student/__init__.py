"""The report of a distillation, as one HTML file."""

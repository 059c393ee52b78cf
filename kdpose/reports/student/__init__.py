"""What a distillation made, as one HTML file."""

"""What can be wrong with annotated images: small checks, each yields findings."""

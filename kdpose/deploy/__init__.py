"""Export networks to other runtimes, and check that the files equal the networks."""

"""Many runs of one experiment: searches for hyper-parameters, and what sweeps leave to read."""

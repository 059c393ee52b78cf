"""Files of weights, read safely, and the networks they describe."""

"""Networks as files for other runtimes, and the checks that they are still the same networks."""

"""The metric as a folder that `evaluate.load` reads, and that can be pushed to the Hub as a Space."""

"""The metric as a folder of its own, which `evaluate.load` reads and which can be uploaded to the Hub as a Space."""

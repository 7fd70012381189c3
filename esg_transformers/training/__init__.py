"""Training and evaluation of a model over a data set, with Accelerate."""

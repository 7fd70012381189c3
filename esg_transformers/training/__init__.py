"""Training and fine-tuning with Accelerate."""

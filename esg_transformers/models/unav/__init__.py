"""The published UnAV baseline, for its checkpoints and for comparison."""

"""The published UnAV baseline, to run its checkpoints and to compare with."""

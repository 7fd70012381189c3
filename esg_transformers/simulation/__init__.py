"""Simulated data: workshop clips with picture and sound, features with events, and features for given annotations."""

"""Encoders: from a media file to audio-visual features on one grid."""

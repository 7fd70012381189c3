"""Pictures and sound from media files."""

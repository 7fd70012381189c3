"""Timelines of one video, as a picture or as a page that plays it."""

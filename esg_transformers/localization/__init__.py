"""From videos to events: the pipeline, folders of files, data sets."""

"""I3D: the files that travel to the Hub; they import only each other and files of `models/esg_net` that travel."""

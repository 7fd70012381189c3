"""I3D: files that are pushed to the Hub; they import only each other and files of `models/esg_net`."""

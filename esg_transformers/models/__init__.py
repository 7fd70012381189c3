"""The networks, one folder each; the shared parts are in `esg_net`, whose files are pushed to the Hub together."""

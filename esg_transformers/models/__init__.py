"""The networks, one folder each; the shared parts are in `esg_net`, whose files travel to the Hub side by side."""

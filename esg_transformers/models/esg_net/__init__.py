"""ESG-Net and the parts that networks share: files that are pushed to the Hub and import only their siblings."""

"""ESG-Net and the parts that networks share: files that travel to the Hub and import only their siblings."""

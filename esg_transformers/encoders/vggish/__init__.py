"""VGGish: exactly the files that travel to the Hub, which import only each other and files of `models/esg_net` that travel too."""

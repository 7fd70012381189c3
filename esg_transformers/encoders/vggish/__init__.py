"""VGGish: exactly the files that travel to the Hub, which import each other and nothing else of this package."""

"""Examples: from annotations, feature files, videos and corpora to batches."""

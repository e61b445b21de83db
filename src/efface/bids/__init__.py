"""BIDS data sets: which scans there are, where outputs go, published downloads."""

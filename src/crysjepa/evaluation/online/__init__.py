"""Known phases fetched over the network."""

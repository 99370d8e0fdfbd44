"""The gateway against its peers, on one machine, with every configuration in the open."""

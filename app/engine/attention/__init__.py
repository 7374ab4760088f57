"""What computes attention in the transformer: tried on this device, chosen, and set."""

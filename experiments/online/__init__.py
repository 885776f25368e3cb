"""Online learning: from nothing, beside models that get the same loop."""

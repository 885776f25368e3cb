"""Online learning from scratch, compared with other models in the same loop."""

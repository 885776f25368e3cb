"""Energy-based models for control: one sampler trains, predicts and plans."""

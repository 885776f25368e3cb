"""Image energies by objective, beside autoencoders and classifiers of their size."""

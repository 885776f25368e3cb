"""Image energies by objective, compared with autoencoders and classifiers of their size."""

"""One module per table or figure; each prints what it claims and writes it to `experiments/results/`."""

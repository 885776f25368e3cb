"""One module per table or figure; each prints its results and writes them to `experiments/results/`."""

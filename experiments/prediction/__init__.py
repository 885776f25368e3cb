"""Multi-step prediction: how far ahead each model sees, and how sharp its distributions are."""

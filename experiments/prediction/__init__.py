"""Multi-step prediction: accuracy by horizon, and quality of the predicted distributions."""

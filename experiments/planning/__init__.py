"""Planning experiments: one module per table or figure."""

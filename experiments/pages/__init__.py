"""Pages of results: for each a template with its fixed text, and the tables for its slots."""

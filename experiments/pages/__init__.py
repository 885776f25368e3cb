"""Pages of results: for each a template with its fixed text, and the tables that stand in its slots."""

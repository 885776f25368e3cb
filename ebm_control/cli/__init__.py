"""Console script `ebm-control`."""

from ebm_control.cli.main import main

__all__ = ["main"]

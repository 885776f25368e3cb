"""Readers of the offline data sets of others, one file for each format, without their packages."""

from ebm_control.data.readers.read import Format, read

__all__ = ["Format", "read"]

"""Robustness of the library: kills, damaged files, full disks, calls with invalid arguments."""

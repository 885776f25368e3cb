"""What the library survives: kills, damaged files, full disks, calls with arguments that make no sense."""

"""The terminal: commands, what they print, and their progress bars."""

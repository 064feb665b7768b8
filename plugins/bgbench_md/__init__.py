"""The md plugin of bgbench."""

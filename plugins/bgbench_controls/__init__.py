"""The controls plugin of bgbench."""

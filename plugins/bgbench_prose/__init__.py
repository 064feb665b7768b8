"""The prose plugin of bgbench."""

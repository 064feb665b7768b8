"""The tbg plugin of bgbench."""

"""The leaderboard: runs packed, checked by trusted code, and shown as static files."""

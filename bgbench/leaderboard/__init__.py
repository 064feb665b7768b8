"""Published results: runs packed as entries, checked by trusted code, shown as static pages."""

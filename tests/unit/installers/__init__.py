"""What the installers apply."""

"""What the lessons draw."""

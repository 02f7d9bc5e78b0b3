"""Toy problems, small enough to be seen whole."""

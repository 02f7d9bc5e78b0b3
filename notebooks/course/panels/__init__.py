"""What readers play with: each module is one panel, drivable without a browser."""

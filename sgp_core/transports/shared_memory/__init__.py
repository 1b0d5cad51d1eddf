"""Memory that the workers of one host share."""

"""Process groups, point-to-point messages and memory shared by processes."""

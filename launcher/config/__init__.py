"""From settings to checked plans."""

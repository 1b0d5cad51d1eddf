"""What ``device_check.py`` checks: one idea a file."""

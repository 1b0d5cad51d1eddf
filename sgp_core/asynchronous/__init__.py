"""The networks of workers that never wait for each other, over shared memory or over messages."""

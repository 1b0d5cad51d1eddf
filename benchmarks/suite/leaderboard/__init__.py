"""What the leaderboard compares, on what, and how one run of it goes."""

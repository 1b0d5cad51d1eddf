"""What is learned: data, models, losses, scores."""

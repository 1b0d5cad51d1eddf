"""What is learned: data sets, models, losses and scores. Each task is a folder that registers itself."""

"""The task of predicting a number; small, and an example of how a task is written."""

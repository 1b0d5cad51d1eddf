"""What a command prints on the terminal while runs are in progress, and at their end."""

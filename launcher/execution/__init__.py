"""Starting workers and following them to their end."""

"""What was run, read from whatever its folders hold: nothing here starts anything."""

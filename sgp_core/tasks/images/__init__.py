"""How images are found, decoded, kept and turned into batches; nothing here knows a data set by name."""

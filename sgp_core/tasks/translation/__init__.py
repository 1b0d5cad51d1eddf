"""Machine translation: parallel text, the transformer, beam search and scores."""

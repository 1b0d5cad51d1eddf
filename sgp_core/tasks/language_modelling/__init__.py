"""Language modelling: text as one stream of tokens, of which a model predicts the next."""

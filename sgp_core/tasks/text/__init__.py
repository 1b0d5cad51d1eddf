"""What tasks of text share: files of text, tokenizers, attention. Importing it does not import torch."""

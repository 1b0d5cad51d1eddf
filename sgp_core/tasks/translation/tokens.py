"""The tokens that are no words; every vocabulary begins with them."""

PAD, BOS, EOS, UNK = range(4)
"""Padding at the end of a row, beginning and end of a sentence, what the vocabulary has no token for."""

NAMES = ("<pad>", "<s>", "</s>", "<unk>")

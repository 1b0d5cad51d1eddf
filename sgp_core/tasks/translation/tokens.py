"""The special tokens, with which every vocabulary begins."""

PAD, BOS, EOS, UNK = range(4)
"""Padding at the end of a row, beginning of a sentence, end of a sentence, and unknown text."""

NAMES = ("<pad>", "<s>", "</s>", "<unk>")

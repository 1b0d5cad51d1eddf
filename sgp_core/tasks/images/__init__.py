"""The task of classifying images, registered by its module ``kind``."""

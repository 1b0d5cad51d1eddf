"""The page that shows a sweep."""

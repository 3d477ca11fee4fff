"""Data roles and caches, augmentation, the search, fusion and the report."""

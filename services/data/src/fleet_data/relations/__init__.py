"""Records and one another: typed links, duplicates, and merging what is the same."""

"""Documents in, passages with citations out: chunking, hybrid retrieval, one collection for many tenants."""

"""Text to vectors: one engine, one thread, one queue that batches by token length."""

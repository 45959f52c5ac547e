"""What a node tells over HTTP, and how programs on its machine find it."""

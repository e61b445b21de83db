"""Pictures of heads as arrays: rendered faces, slices, colours."""

"""An audit of images that are about to be shared: is a face, or a name, still in there? No original is needed."""

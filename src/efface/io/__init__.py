"""Reading and writing: scans and labels, file formats, atomic writes, temporary folders, headers without names."""

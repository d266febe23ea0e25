"""Images: where they come from, one array on disk, one loader."""

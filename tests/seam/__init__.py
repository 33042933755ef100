"""The laws that any backend keeps."""

"""What a run leaves behind for a person: records, curves, pictures, progress."""

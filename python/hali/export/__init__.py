"""Other programs' model folders: what they expect to find there, written by link."""

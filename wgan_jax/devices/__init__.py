"""Where arrays live, and how processes find and leave each other."""

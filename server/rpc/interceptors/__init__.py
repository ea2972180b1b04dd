"""What surrounds every call, one concern a file, in one fixed order."""

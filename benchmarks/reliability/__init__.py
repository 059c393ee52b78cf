"""What kdpose does when processes are killed, files are damaged and machines fail."""

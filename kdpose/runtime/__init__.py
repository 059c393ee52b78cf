"""What the process is: its rank, its code and files, its device."""

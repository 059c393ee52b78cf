"""What half an hour of one GPU should run, in parts that skip and continue themselves."""

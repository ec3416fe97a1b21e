"""Studies of finished networks: each one command with a table and a figure."""

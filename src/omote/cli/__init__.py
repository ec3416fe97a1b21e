"""The command line: options per command, one handler of errors, progress bars. The rest is in `omote.api`."""

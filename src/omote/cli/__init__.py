"""The command line: options of each command, handling of errors, progress bars. The work is done in `omote.api`."""

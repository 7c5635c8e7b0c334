"""Random bad input for everything that reads what a user gives: a line of error, or what was meant, and nothing else.

A reader is a `Target`, a file each here. `make test` tries 1,000 cases of each (test_fuzz.py), `make fuzz` 100,000.
"""

TARGETS = ("idx_files", "checkpoints", "run_files", "params_files", "pictures", "command_lines")  # modules

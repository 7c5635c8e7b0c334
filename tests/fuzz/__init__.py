"""Random bad input for every reader of user input: one line of error, or the expected value, and nothing else.

A reader is a `Target`, one per file here. `make test` tries 1,000 cases of each (test_fuzz.py), `make fuzz` 100,000.
"""

TARGETS = ("idx_files", "checkpoints", "run_files", "params_files", "pictures", "command_lines")  # modules

"""What runs inside the fence: enter (limits, then a program), seccomp, root (a file system of its own), wire, worker.

These files are all of the grader that a submission can see.
"""

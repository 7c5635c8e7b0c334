"""Submissions -> points. In the order of the data:

submissions   a folder as exported -> one file per student
filling       a file -> the released notebook with the student's answers
sight, fences what a submission may see and use -> a process in a fence
inside/       what runs there: enter, root, seccomp, worker, wire
session       requests -> the process and its answers, as plain values
scoring       hidden tests, reference: the net in NumPy -> points
one           a submission in a process of ours
classroom     all submissions, several at a time
gradebook     results -> nbgrader
likeness      pairs that are nearly the same
report        report.html, grades.csv
"""

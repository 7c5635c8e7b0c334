"""A number -> a version of the assignment: `version` decides, `notebook` writes it, `course` puts it into a folder."""

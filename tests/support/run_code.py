"""Owns running a line of Python as a module, for children that a test describes in place."""

import sys

if __name__ == "__main__":
    exec(compile(sys.argv[1], "<test>", "exec"), {})

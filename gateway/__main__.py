"""Owns ``python -m gateway``, which is how workers are started."""

from gateway.cli import main

if __name__ == "__main__":
    main()

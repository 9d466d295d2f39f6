"""Owns ``python -m registry_core``."""

from registry_core.cli import main

if __name__ == "__main__":
    main()

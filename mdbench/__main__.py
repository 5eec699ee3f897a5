"""``python -m mdbench`` is the command ``mdbench``."""

from mdbench.cli import main

if __name__ == "__main__":
    main()

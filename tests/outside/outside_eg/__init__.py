"""What a package outside of mdbench can bring, each in one file."""

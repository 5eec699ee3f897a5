"""What people look at: HTML pages from templates, tables and progress for the terminal."""

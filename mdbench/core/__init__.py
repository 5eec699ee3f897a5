"""Below everything: errors, files, devices, statistics, what is kept on disk. It knows no task."""

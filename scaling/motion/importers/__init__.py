"""One importer a motion format, chosen by what a file holds and never by its name."""

"""The tests of what the project says of itself: every example on every page is run."""

"""The tests of the practice exchange."""

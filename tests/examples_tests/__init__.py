"""The tests of the programs for users (tests/examples/)."""

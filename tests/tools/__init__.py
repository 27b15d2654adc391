"""Programs for developers, which measure and check the client. They are not tests."""

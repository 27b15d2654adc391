"""Programs for developers, which measure the client and put it to the proof. No tests."""

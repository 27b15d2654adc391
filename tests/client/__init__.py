"""The tests of krakenws.py, by subject, and the scripted exchange that they run it against."""

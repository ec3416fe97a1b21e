"""The face found in a scan of any pose and unit, and the head fitted to it."""

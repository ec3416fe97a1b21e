"""RGB-D images back to the head model, in correspondence."""

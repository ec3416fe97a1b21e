"""From generated RGB-D images back to the head model's vertices, in correspondence."""

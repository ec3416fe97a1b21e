"""Face-scan datasets: readers of their folder layouts, which list scans with subject, label, category and ARKit names."""

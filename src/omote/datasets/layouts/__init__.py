"""Datasets of face scans that users hold: layouts on disk → items with subject, label, category and ARKit names."""

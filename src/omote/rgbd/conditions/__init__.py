"""The kinds of condition of an edit."""

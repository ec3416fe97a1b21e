"""The kinds of condition that an edit can be given."""

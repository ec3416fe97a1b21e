"""Parts of the build of the shipped head basis (see ``scripts/build_head.py``)."""

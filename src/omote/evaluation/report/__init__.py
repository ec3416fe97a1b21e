"""A self-contained page of a result folder, or of several compared: tables with intervals, figures, contact sheets.

Import from its modules: other pages share `html`'s style, and do without the catalogue that reports need.
"""

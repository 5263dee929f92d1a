"""Figures and tables of the paper, and beyond: one readable file each, run by `tabb figure`."""

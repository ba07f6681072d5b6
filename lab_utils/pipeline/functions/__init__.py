"""What runs inside Lambda: one file per function, deployed as it stands.

These files are read in the book and changed in its exercises, so they import nothing from
``lab_utils``: the text you see is the text that runs, on every target.
"""

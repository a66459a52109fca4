"""The Python API: each command of the command line is a function of the same name, with the same options.

`ctbench` re-exports them, each from its module on first use: a list needs not wait for what a run needs.
"""

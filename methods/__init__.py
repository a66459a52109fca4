"""Methods of continual pre-training, one file each; loaded by name through `ctbench.get_method`."""

if __name__ != "ctbench_methods":
    raise ImportError(f"the methods are the package ctbench_methods, not {__name__}: use ctbench.get_method(name)")

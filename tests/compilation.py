"""How the tests compile."""

from importlib import metadata

# The parallel tests need several devices on one machine.
XLA_FLAGS = "--xla_force_host_platform_device_count=4"
# Nine tenths of the suite is compilation, and this halves it. A jaxlib that does not know a flag
# ends the process, so these are for the releases that were tried.
if metadata.version("jaxlib").startswith("0.10."):
    XLA_FLAGS += " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

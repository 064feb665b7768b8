"""What every room speaks: values, interfaces, the plugin contract, options, files, errors, units.

Imports nothing of bgbench; everything else may import it.
"""

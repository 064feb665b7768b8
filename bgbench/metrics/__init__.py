"""See the modules of this package. What they need of POT, scikit-learn and deeptime is imported where it is
used: together a second and a hundred megabytes that `bgbench show` and small cells do without."""

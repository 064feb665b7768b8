"""What authors of plugins use: skeletons of packages, and the check of what is installed.

Open `check` first: `check_plugin` runs the laws of a kind against one registered name and returns a
`CheckReport`. The laws themselves are the law books of `bgbench.testing`, which the door `bgbench.api` hands
in: authors subclass the same ones. `advice` says of each law why it matters and what to change where it does
not hold. `fresh` is the process that a check starts, to see what a worker would see. `skeletons` writes the
packages of `bgbench new`, from the files below `templates/`.
"""

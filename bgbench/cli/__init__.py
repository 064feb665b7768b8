"""The terminal: commands, what they print, and their progress bars.

Open `main` first: it defines `bgbench run`, list, train, weights, audit, track and doctor, and adds the
modules that hold the other commands: `runs` (those on finished runs, such as `show` and `replay`),
`authoring` (`bgbench new` and `bgbench check`), `data` (`bgbench data …`) and `leaderboard`
(`bgbench leaderboard …`). These are named after the commands and are not the rooms of the same name.

The rest is shared by the commands: `commands` refuses options that are there twice, `display` prints tables
and verdicts, `progress` shows bars on a terminal and lines in a log, `targets` turns the words of
`bgbench data` into systems, and `streams` keeps standard output for what commands print.

A command reads its arguments, calls a function of another room (or `bgbench.api`) and prints the result.
Modules that are slow to import are imported inside the commands, so that `bgbench --help` answers in less
than a second.
"""

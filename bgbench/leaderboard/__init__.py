"""Published results: runs packed as entries, checked by trusted code, shown as static pages.

An entry is a folder with the plan and the records of one finished run, and who publishes it. Trusted code is
ours: no submitted code is ever imported. The board is a folder of entries and a ledger of what was published.
Open `entries` first (`Entry`, `open_entry`), then follow an entry: `submit` packs a run, `validate` checks
it, `board` (`accept`, `withdraw`) publishes it, `reproduce` compares it with a maintainer's run on
new seeds, `site` (`build`) makes the pages and `serve` shows them. `rules` are the limits as constants,
`problems` the refusals.

`validate` reads a stranger's files through `folders` (which files may be there), `guarded` (JSON) and
`archives` (arrays); `pins` are what to install, in parts. Then `checks` needs records alone, and
`recompute` judges the arrays again and evaluates energies anew; `copies` and `borrowed` find conformers of
the reference and of others among them, `normalisation` weights whose log Z differs between seeds,
`suspicion` distances that exact draws do not reach, `confusables` names that read like others'. `building`
builds the pages of an entry before it is taken. `publishing` and `ledger` change entry and ledger together
or not at all, and `history` refuses every change that the ledger does not say. For the pages, `tables`
groups entries and ranks them, `costs` adds what they cost, `views` and `details` turn numbers into text,
`charts` with `scales` draws SVG, and `downloads` writes CSV and JSON.

The statistics are those of `reports`. The entries themselves, the text of the rules and the page templates
are in the folder `leaderboard/` of the repository.
"""

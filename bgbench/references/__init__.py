"""The truth: reference ensembles, how they are made, stored, graded, fetched and checked.

A reference holds the frames of independent long simulations (replicas) of one system, their energies in kT,
and a certificate: how they were made, how well the replicas agree, and the grade that follows (gold, silver
or bronze). Open `providers` first: `find_reference` returns the `Reference` of a system, the user's own
before the packaged one; where there is none at its temperature, `reweight` resamples the one of 310 K.

Files: `store` reads and writes them, `packing` compresses positions, `certificates` keeps the certificate in
its own file, `sums` has the checksums, `superseded` lists packaged references that were replaced, `soundness`
(`verify_reference`) checks a file against its certificate, and `physics` tells by the bonds of frames whether
they can be of the stated temperature. Making them: `simulate` (`simulate.simulate`) runs an engine of the
room `dynamics`, `tica` fits the slow coordinates, and `diagnostics` (`certify`) measures convergence and
grades. Fetching them: `published` converts the published data of arXiv 2508.18175, `shards` reads its
training frames, and `hub` downloads files. Data for training: `training` says which peptides are held out,
`training_files` knows the peptide of a file by its atoms and refuses impossible frames, and `draws` makes
training frames from a sampler's own reweighted draws.

Exact samples of analytic systems are in `systems.analytic`; what compares two references of one system is in
`reports.agreement`. No sampler is judged here.
"""

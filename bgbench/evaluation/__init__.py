"""One cell from start to end: a sampler draws, an estimator weights, a protocol judges, an audit checks."""

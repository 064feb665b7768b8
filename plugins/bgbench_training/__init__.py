"""What the trained samplers share: files and batches of training peptides, rotations, weights on disk, what
moves networks and peptides to a device and splits work by its memory, what cards can do at most, and
Lightning's loop around a network. No plugin itself: plugins import its modules, and Lightning is imported by
`module`, `curves` and `loop` alone, which are for training only.
"""

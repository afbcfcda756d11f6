"""Training data: scenes read once, encoded by a few operators, kept as arrays that need no reader and no operator."""

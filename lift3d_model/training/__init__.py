"""Training of the learned parts: cached scenes in, a checkpoint out. Needs torch and numpy only."""

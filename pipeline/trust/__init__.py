"""How far labels can be trusted: confidence made honest, pixels that views disagree on, and what to correct first."""

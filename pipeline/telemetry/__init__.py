"""How a run goes, told to whoever asks: run documents, signs of life, events, metrics and the time that is left."""

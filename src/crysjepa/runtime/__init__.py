"""How work is run: whole files, workers that may die, progress, logs. It knows nothing of crystals."""

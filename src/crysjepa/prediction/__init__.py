"""Structure prediction: the crystals of one formula, the lowest in energy first."""

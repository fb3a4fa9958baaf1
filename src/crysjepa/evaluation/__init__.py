"""Valid, stable, unique, novel: how crystals are judged (appendix D.2)."""

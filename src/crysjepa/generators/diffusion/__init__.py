"""The paper's generator: a DDPM over atom vectors (appendix B)."""

"""Does a crystal of the short list make sense: is it at rest in a minimum, and is it plain chemistry?"""

"""Would we notice if an embedding were collapsed or meaningless?"""

FEATURES = [2, 4, 8, 16, 32]  # of the small network in these tests

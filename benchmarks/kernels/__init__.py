"""Speed of the feature kernels beside TA-Lib, pandas and talipp, in one run on one core."""

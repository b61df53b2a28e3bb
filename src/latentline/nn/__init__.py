"""Building blocks of networks. Shape legend: B batch, C channels, H and W map size, N = H*W positions, D condition width."""

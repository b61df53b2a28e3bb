"""Building blocks of networks: residual blocks, attention, embeddings, and the U-Net.

Shape legend: B batch, C channels, H and W map size, N = H*W positions, D condition width.
"""

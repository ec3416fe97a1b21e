"""The effect of the downsampling factor f at equal computing (Rombach et al., CVPR 2022, §4.1)."""

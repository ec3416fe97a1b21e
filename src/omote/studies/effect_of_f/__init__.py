"""The effect of the downsampling factor f at equal compute (Rombach et al., CVPR 2022, §4.1)."""
